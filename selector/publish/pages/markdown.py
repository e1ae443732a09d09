"""Matrix -> Markdown: a summary of all hosts that is read in a minute, and a page for each host."""

import re
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from calibration.workload import Workload
from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Matrix, Row, Square, State
from selector.publish.matrix.not_launched import not_launched_on
from selector.publish.matrix.rerun import command
from selector.publish.pages.picks import best_of_backend, launched, most_telling, podium, shown_first
from selector.publish.pages.served import HEAD as SERVED_HEAD
from selector.publish.pages.served import served_tables
from selector.publish.pages.wording import (
    AS_SERVED,
    LEGEND,
    OF_THE_MACHINE,
    TITLES,
    called,
    converted,
    machine,
    mark,
    models_of,
    precision,
    reached,
    short,
    tags,
)
from selector.screens.text import day, listing, output, plural, seconds, size

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def markdown(matrix: Matrix) -> str:
    """The summary, in GitHub's Markdown: for each host and model the fastest, the next backend, the fastest lossy."""
    first = shown_first(matrix.workloads)
    view, workload = next(iter(first.items()), (View.END_TO_END, None))
    return _pages().get_template("matrix.md.j2").render(
        matrix=matrix,
        workload=workload,
        called=called,
        places=lambda row: _places(row, view, workload.label if workload else ""),
        precision=precision,
        legend=LEGEND,
        day=day,
        plural=plural,
    )  # fmt: skip


def host_markdown(matrix: Matrix, host: HostResults) -> str:
    """The page of a host.

    A table of models and backends for each view; then for each model its variants, and what was refused or failed, and
    why.
    """
    rows = matrix.of(host)
    first = shown_first(matrix.workloads_of(host))
    backends = [b for b in matrix.backends if any(s.figures for row in rows for s in row.of_backend(b))]
    groups = not_launched_on(rows)
    return _pages().get_template("host.md.j2").render(
        host=host,
        rows=rows,
        panels=[(TITLES[view], view, workload, called(workload)) for view, workload in first.items()],
        backends=backends,
        others=listing([b for b in matrix.backends if b not in backends]),
        legend=LEGEND,
        cell=_cell,
        machine=machine,
        of_the_machine=OF_THE_MACHINE,
        variants=lambda row: [
            _variant(square, first, probed=host.probe is not None)
            for square in launched(row)
            if square.state is State.MEASURED
        ],
        failed=lambda row: [square for square in row.squares if square.state is State.FAILED],
        groups=groups,
        served=served_tables(host),
        served_head=SERVED_HEAD,
        as_served=AS_SERVED,
        models_of=lambda group: models_of(group, len(rows)),
        commands=list(dict.fromkeys(command(row.model, rerun) for row in rows for rerun in row.reruns)),
        precision=precision,
        day=day,
    )  # fmt: skip


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell too."""
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _pages() -> Environment:
    pages = Environment(
        loader=PackageLoader("selector.publish.pages"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Markdown: `escaped` is used on everything that is not ours
    )
    pages.filters["md"] = escaped
    return pages


def _places(row: Row, view: View, workload: str) -> list[str]:
    """Best, runner-up and fastest lossy variant of a row, each with its time; `-` where there is none."""
    places = podium(row, view, workload)
    cells = []
    for square in (places.best, places.runner_up, places.lossy):
        if square is None:
            cells.append("-")
            continue
        figure = square.figures[view, workload]
        ratio = ""
        if square is places.runner_up and places.best is not None:
            ratio = f" ({figure.median / places.best.figures[view, workload].median:.2f}x)"
        sign = f"{mark(square, figure)} " if square is not places.best and mark(square, figure) else ""
        words = f"{sign}{escaped(square.label)} {escaped(short(square, view, figure))}{ratio}"
        cells.append(" ".join([words, *map(escaped, tags(square, figure))]))
    return [f"**{cells[0]}**" if places.best is not None else cells[0], *cells[1:]]


def _cell(row: Row, backend: str, view: View, workload: str) -> str:
    """A backend's fastest variant, and below it the fastest of its lossy ones; else a sign for why there is none."""
    squares = best_of_backend(row, backend, view, workload)
    if not squares:
        square = most_telling(row.of_backend(backend))
        return mark(square, None) if square.state is not State.FAILED else f"✕ {escaped(short(square, view, None))}"
    return "<br>".join(_figure(square, view, workload) for square in squares)


def _figure(square: Square, view: View, workload: str) -> str:
    figure = square.figures.get((view, workload))
    words = " ".join(
        [escaped(square.variant), escaped(short(square, view, figure)), *map(escaped, tags(square, figure))]
    )
    sign = mark(square, figure)
    return f"**{sign} {words}**" if figure is not None and figure.best else f"{sign} {words}".strip()


def _variant(square: Square, first: Mapping[View, Workload], *, probed: bool) -> Sequence[str]:
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
        *([escaped(reached(square))] if probed else []),
    ]
