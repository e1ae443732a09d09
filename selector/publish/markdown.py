"""Matrix -> Markdown, for a repository's pages and a job's summary."""

import re
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from calibration.workload import Workload
from selector.publish.figures import View
from selector.publish.matrix import Matrix, Row, Square, State
from selector.publish.wording import (
    LEGEND,
    TITLES,
    best_of,
    called,
    converted,
    idle,
    launched,
    mark,
    of_backend,
    reproduce,
    short,
    shown_first,
    tags,
    telling,
    unlaunched,
)
from selector.screens.text import day, output, seconds, size

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def markdown(matrix: Matrix) -> str:
    """The page as Markdown (GitHub's).

    For each host a table of models and backends for each view; then for each model its variants, and what was refused
    or failed, and why.
    """
    pages = Environment(
        loader=PackageLoader("selector.publish"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Markdown: `escaped` is used on everything that is not ours
    )
    pages.filters["md"] = escaped
    template = pages.get_template("matrix.md.j2")
    first = shown_first(matrix)
    return template.render(
        matrix=matrix,
        panels=[(TITLES[view], view, workload, called(workload)) for view, workload in first.items()],
        legend=LEGEND,
        cell=_cell,
        variants=lambda row: [_variant(square, first) for square in launched(row) if square.state is State.MEASURED],
        failed=lambda row: [square for square in row.squares if square.state is State.FAILED],
        unlaunched=unlaunched,
        idle=idle,
        commands=lambda rows: list(dict.fromkeys(reproduce(row.model, a) for row in rows for a in row.again)),
        day=day,
    )


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell too."""
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _cell(row: Row, backend: str, view: View, workload: str) -> str:
    """The backend's fastest variant, and below it the fastest of its lossy ones."""
    squares = of_backend(row, backend)
    found = [s for s in best_of(squares, view, workload) if s is not None]
    if not found:
        square = telling(squares)
        return f"{mark(square, None)} {escaped(short(square, view, None))}".strip()
    return "<br>".join(_figure(square, view, workload) for square in found)


def _figure(square: Square, view: View, workload: str) -> str:
    figure = square.figures.get((view, workload))
    text = escaped(short(square, view, figure))
    told = " ".join([escaped(square.variant), text, *map(escaped, tags(square, figure))])
    sign = mark(square, figure)
    return f"**{sign} {told}**" if figure is not None and figure.best else f"{sign} {told}".strip()


def _variant(square: Square, first: Mapping[View, Workload]) -> list[str]:
    """A line of a model's own table."""
    measured = square.measurement
    assert measured is not None
    figures = []
    for view, workload in first.items():
        figure = square.figures.get((view, workload.label))
        text = short(square, view, figure) if figure else "-"
        figures.append(f"{mark(square, figure)} {escaped(text)}".strip())
    stale = " stale" if square.differences else ""
    return [
        escaped(square.label) + stale,
        *figures,
        escaped(output(measured.agreement)),
        escaped(square.batching or "-"),
        escaped(converted(square)),
        seconds(measured.load_s),
        size(measured.gpu_memory_bytes or measured.peak_memory_bytes),
    ]
