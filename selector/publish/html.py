"""Matrix -> one self-contained HTML page: readable without a script, better with one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from calibration.measurement import Identity
from selector.publish.embedded import embedded, percent
from selector.publish.figures import View
from selector.publish.matrix import Matrix, Row, Square, State
from selector.publish.not_launched import not_launched_on
from selector.publish.picks import best_of_backend, launched, most_telling, podium, shown_first
from selector.publish.reproduce import command
from selector.publish.wording import LEGEND, TITLES, called, converted, mark, models_of, precision, short, tags
from selector.screens.text import day, output, plural, seconds, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A square in a few words: in a cell of the table, or in a model's own table."""

    name: str
    css: str
    mark: str
    text: str
    tags: list[str]
    percent: int | None
    """Length of the bar; None where there is no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A model on all hosts."""

    model: str
    precision: str
    rows: tuple[Row | None, ...]
    """For each host; None where it was not measured."""

    @property
    def any_row(self) -> Row:
        return next(row for row in self.rows if row is not None)


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
    anchors = dict(_anchors(matrix))
    return pages.get_template("matrix.html.j2").render(
        matrix=matrix,
        newest=max((host.published_at for host in matrix.hosts), default=0.0),
        compared=_compared(matrix) if len(matrix.hosts) > 1 else [],
        first=lambda host: shown_first(matrix.workloads_of(host)),
        first_of_all=shown_first(matrix.workloads),
        backends_of=_backends_of,
        lines=_lines,
        host_lines=_host_lines,
        line=_line,
        anchor=lambda row: anchors[row.identity],
        launched=launched,
        not_launched=not_launched_on,
        models_of=models_of,
        launches=lambda rows: sum(square.launches for row in rows for square in row.squares),
        commands=lambda rows: list(dict.fromkeys(command(row.model, again) for row in rows for again in row.again)),
        quants=sorted({row.identity.quant for row in matrix.rows}),
        titles=TITLES,
        legend=LEGEND,
        embedded=embedded(matrix, anchors),
        called=called,
        converted=converted,
        precision=precision,
        day=day,
        output=output,
        plural=plural,
        seconds=seconds,
        size=size,
    )


def _anchors(matrix: Matrix) -> Iterator[tuple[Identity, str]]:
    """The id in the page of each row's model: made of host and model, so that a link to it lasts."""
    taken: set[str] = set()
    for row in matrix.rows:
        key = row.identity
        anchor = _slug(f"{key.host}-{row.model}")
        if anchor in taken:
            anchor = _slug(f"{anchor}-{key.dtype}-{key.quant}-{key.device_count}-{key.fingerprint}")
        while anchor in taken:
            anchor += "-x"
        taken.add(anchor)
        yield key, anchor


def _slug(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in text)


def _compared(matrix: Matrix) -> list[Compared]:
    """The models of all hosts, sorted by name."""
    by_model: dict[tuple[str, str], dict[str, Row]] = {}
    for row in matrix.rows:
        by_model.setdefault((row.model, precision(row)), {}).setdefault(row.identity.host, row)
    return [
        Compared(model=model, precision=words, rows=tuple(rows.get(host.host) for host in matrix.hosts))
        for (model, words), rows in sorted(by_model.items())
    ]


def _backends_of(rows: Sequence[Row], matrix: Matrix) -> list[str]:
    """The backends that a host's rows say something of."""
    return [b for b in matrix.backends if any(s.state is not State.UNTESTED for r in rows for s in r.of_backend(b))]


def _lines(row: Row, backend: str, view: View, workload: str) -> list[Line]:
    """What a host's table says of a backend: its fastest variant and the fastest lossy one, or why there is none."""
    squares = best_of_backend(row, backend, view, workload) or [most_telling(row.of_backend(backend))]
    return [_line(square, view, workload) for square in squares]


def _host_lines(compared: Compared, row: Row, view: View, workload: str) -> list[Line]:
    """What the table of all hosts says of a host: who is fastest there, and the fastest lossy variant.

    Their bars are as long as they are good beside the fastest of all hosts.
    """

    def median_of(square: Square) -> float:
        return square.figures[view, workload].median

    podiums = [podium(r, view, workload) for r in compared.rows if r is not None]
    fastest = min((median_of(p.best) for p in podiums if p.best is not None), default=0.0)
    here = podium(row, view, workload)
    return [
        _line(
            square,
            view,
            workload,
            name=square.label,
            sign="",
            length=max(1, min(100, round(100 * fastest / median_of(square)))) if fastest else 1,
        )
        for square in (here.best, here.lossy)
        if square is not None
    ]


def _line(
    square: Square,
    view: View,
    workload: str,
    *,
    name: str | None = None,
    sign: str | None = None,
    length: int | None = None,
) -> Line:
    figure = square.figures.get((view, workload))
    words = [square.state.replace(" ", "-")]
    if figure is not None and sign is None:
        words += ["best"] if figure.best else ["tied"] if figure.tied else []
    words += ["lossy"] if square.lossy else []
    words += ["stale"] if square.differences else []
    return Line(
        name=square.variant if name is None else name,
        css=" ".join(words),
        mark=mark(square, figure) if sign is None else sign,
        text=short(square, view, figure),
        tags=tags(square, figure),
        percent=None if figure is None else percent(figure) if length is None else length,
    )
