"""Matrix -> one self-contained HTML page: readable without a script, better with one."""

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from calibration.measurement import Measurement
from calibration.workload import Workload
from selector.publish.figures import View
from selector.publish.matrix import Matrix, Published, Row, Square, State
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
    reproduce_one,
    short,
    shown_first,
    tags,
    telling,
    unlaunched,
)
from selector.screens.text import day, output, plural, seconds, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One table: a view of one workload."""

    title: str
    view: View
    workload: Workload
    name: str
    first: bool
    """Open where there is no script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A square in a few words, in a panel's cell or in a model's own table."""

    square: Square
    css: str
    mark: str
    text: str
    tags: list[str]
    percent: int | None
    """Length of the bar."""
    anchor: str


def html(matrix: Matrix) -> str:
    """The page."""
    pages = Environment(
        loader=PackageLoader("selector.publish"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    template = pages.get_template("matrix.html.j2")
    return template.render(
        matrix=matrix,
        panels=list(_panels(matrix)),
        first=shown_first(matrix),
        titles=TITLES,
        legend=LEGEND,
        lines=_lines,
        line=_line,
        anchor=_anchor,
        model_anchor=_model_anchor,
        tip=_tip,
        launched=launched,
        unlaunched=unlaunched,
        idle=idle,
        called=called,
        converted=converted,
        day=day,
        seconds=seconds,
        size=size,
        output=output,
        reproduce=reproduce,
        reproduce_one=reproduce_one,
        quants=sorted({row.identity.quant for row in matrix.rows}),
    )


def _panels(matrix: Matrix) -> Iterator[Panel]:
    """Those that are open first, then the others, view by view."""
    first = shown_first(matrix)
    all_of = [(view, w, first.get(view) == w) for view in View for w in matrix.workloads]
    timed = {key for row in matrix.rows for square in row.squares for key in square.figures}
    for view, workload, opened in sorted(all_of, key=lambda p: not p[2]):
        if (view, workload.label) in timed:
            yield Panel(title=TITLES[view], view=view, workload=workload, name=called(workload), first=opened)


def _anchor(host: Published, row: Row, square: Square) -> str:
    """Id of a square's story; made of what is in the matrix, so that a link to it lasts."""
    label = "".join(c if c.isalnum() else "-" for c in square.label)
    return f"{_model_anchor(host, row)}-{label}"


def _model_anchor(host: Published, row: Row) -> str:
    key = row.identity
    quant = "".join(c if c.isalnum() else "-" for c in key.quant)
    return f"{host.host}-{key.fingerprint}-{key.dtype}-{quant}-{key.device_count}"


def _lines(host: Published, row: Row, backend: str, view: View, workload: str) -> list[Line]:
    """What a panel says of a backend: its fastest variant and the fastest of its lossy ones, or why there is none."""
    squares = of_backend(row, backend)
    found = [s for s in best_of(squares, view, workload) if s is not None]
    return [_line(host, row, square, view, workload) for square in found or [telling(squares)]]


def _line(host: Published, row: Row, square: Square, view: View, workload: str) -> Line:
    figure = square.figures.get((view, workload))
    css = [square.state.replace(" ", "-")]
    if figure is not None:
        css += ["best"] if figure.best else ["tied"] if figure.tied else []
    css += ["stale"] if square.differences else []
    told = square.state in {State.MEASURED, State.FAILED}
    return Line(
        square=square,
        css=" ".join(css),
        mark=mark(square, figure),
        text=short(square, view, figure),
        tags=tags(square, figure),
        percent=None if figure is None else max(1, round(100 * figure.share)),
        anchor=_anchor(host, row, square) if told else f"{_model_anchor(host, row)}-refused",
    )


def _tip(square: Square) -> str:
    """A few lines for a mouse that rests on a square."""
    lines = [f"{square.label}: {square.state}", *square.reasons]
    if square.state is State.MEASURED and isinstance(square.last, Measurement):
        day_of_last = day(square.last.started_at)
        lines.append(
            f"{plural(square.launches, 'launch')}, the last on {day_of_last}; output {output(square.last.agreement)}"
        )
        lines.append(f"peak memory {size(square.last.peak_memory_bytes)}, loaded in {seconds(square.last.load_s)}")
    if square.differences:
        lines.append(f"since then: {', '.join(square.differences)}")
    return "\n".join(lines)
