"""Matrix -> one self-contained HTML page: readable without a script, better with one."""

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from calibration.measurement import Measurement
from calibration.workload import Workload
from selector.export.wording import LEGEND, TITLES, called, mark, reproduce, short, shown_first, tags
from selector.matrix import Matrix, Published, Row, Square, State, View
from selector.screen import day, output, plural, seconds, size


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
class Cell:
    """A square in one panel."""

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
        loader=PackageLoader("selector.export"),
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
        titles=TITLES,
        legend=LEGEND,
        cell=_cell,
        anchor=_anchor,
        tip=_tip,
        called=called,
        day=day,
        seconds=seconds,
        size=size,
        output=output,
        reproduce=reproduce,
        is_measurement=lambda outcome: isinstance(outcome, Measurement),
        backends=list(dict.fromkeys(label.partition(":")[0] for label in matrix.labels)),
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
    return f"{host.host}-{row.identity.fingerprint}-{row.identity.dtype}-{row.identity.device_count}-{label}"


def _cell(host: Published, row: Row, square: Square, view: View, workload: str) -> Cell:
    figure = square.figures.get((view, workload))
    css = [square.state.replace(" ", "-")]
    if figure is not None:
        css += ["best"] if figure.best else ["tied"] if figure.tied else []
    css += ["stale"] if square.differences else []
    return Cell(
        square=square,
        css=" ".join(css),
        mark=mark(square, figure),
        text=short(square, view, figure),
        tags=tags(square, figure),
        percent=None if figure is None else max(1, round(100 * figure.share)),
        anchor=_anchor(host, row, square),
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
