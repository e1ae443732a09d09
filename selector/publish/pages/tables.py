"""The tables of the page: which lines stand in a cell, and under which id a model is found."""

from collections.abc import Sequence
from dataclasses import dataclass

from calibration.measurement import Identity
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Matrix, Row, Square, State
from selector.publish.pages.picks import best_of_backend, most_telling, podium, slowness
from selector.publish.pages.wording import mark, percent, precision, short, tags


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


def backends_of(rows: Sequence[Row], matrix: Matrix) -> list[str]:
    """The backends that a host's rows say something of."""
    return [b for b in matrix.backends if any(s.state is not State.UNTESTED for r in rows for s in r.of_backend(b))]


def compared(matrix: Matrix) -> list[Compared]:
    """The models of all hosts, sorted by name."""
    by_model: dict[tuple[str, str], dict[str, Row]] = {}
    for row in matrix.rows:
        by_model.setdefault((row.model, precision(row)), {}).setdefault(row.identity.host, row)
    return [
        Compared(model=model, precision=words, rows=tuple(rows.get(host.host) for host in matrix.hosts))
        for (model, words), rows in sorted(by_model.items())
    ]


def lines(row: Row, backend: str, view: View, workload: str) -> list[Line]:
    """What a host's table says of a backend: its fastest variant and the fastest lossy one, or why there is none."""
    squares = best_of_backend(row, backend, view, workload) or [most_telling(row.of_backend(backend))]
    return [line(square, view, workload) for square in squares]


def host_lines(compared: Compared, row: Row, view: View, workload: str) -> list[Line]:
    """What the table of all hosts says of a host: who is fastest there, and the fastest lossy variant.

    Their bars are as long as they are good beside the fastest of all hosts.
    """

    def slowness_of(square: Square) -> float:
        return slowness(view, square.figures[view, workload])

    podiums = [podium(r, view, workload) for r in compared.rows if r is not None]
    least = min((slowness_of(p.best) for p in podiums if p.best is not None), default=0.0)
    here = podium(row, view, workload)
    return [
        line(
            square,
            view,
            workload,
            name=square.label,
            sign="",
            length=max(1, min(100, int(100 * least / slowness_of(square) + 0.5))),
        )
        for square in (here.best, here.lossy)
        if square is not None
    ]


def line(
    square: Square,
    view: View,
    workload: str,
    *,
    name: str | None = None,
    sign: str | None = None,
    length: int | None = None,
) -> Line:
    """A square for a view of a workload; `name`, `sign` and `length` where they are not the square's own."""
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


def anchors(matrix: Matrix) -> dict[Identity, str]:
    """The id in the page of each row's model: made of host and model, so that a link to it lasts."""
    ids: dict[Identity, str] = {}
    for row in matrix.rows:
        key = row.identity
        anchor = _slug(f"{key.host}-{row.model}")
        if anchor in ids.values():
            facets = (key.dtype, key.quant, key.device_count, key.fingerprint, *filter(None, (key.config, key.cut)))
            anchor = _slug("-".join(map(str, (anchor, *facets))))
        while anchor in ids.values():
            anchor += "-x"
        ids[key] = anchor
    return ids


def _slug(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in text)
