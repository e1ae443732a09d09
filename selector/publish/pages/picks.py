"""Which squares of a row a page shows: the fastest of a backend, the fastest of all, the one that says most."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from calibration.workload import STANDARD, Workload
from selector.publish.matrix.figures import Figure, View
from selector.publish.matrix.matrix import Row, Square, State
from selector.publish.pages.wording import amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Podium:
    """Who is fastest on a row; None where nobody is."""

    best: Square | None
    """What `select` would choose."""
    runner_up: Square | None
    """The fastest of the other backends that `select` may choose."""
    lossy: Square | None
    """The fastest of the lossy ones."""


def podium(row: Row, view: View, workload: str) -> Podium:
    """The fastest of a row, over all backends."""
    able = [s for s in row.squares if s.may_win]
    best = fastest(able, view, workload)
    others = [s for s in able if best is not None and s.backend != best.backend]
    return Podium(
        best=best,
        runner_up=fastest(others, view, workload),
        lossy=fastest((s for s in row.squares if s.lossy), view, workload),
    )


def best_of_backend(row: Row, backend: str, view: View, workload: str) -> list[Square]:
    """The fastest of a backend's variants that is as precise as the model, and the fastest that is lossy."""
    squares = row.of_backend(backend)
    both = (fastest((s for s in squares if s.lossy == lossy), view, workload) for lossy in (False, True))
    return [square for square in both if square is not None]


def fastest(squares: Iterable[Square], view: View, workload: str) -> Square | None:
    """The fastest of some squares; of those whose figures look alike the first.

    Stale figures are shown where there is nothing else, and never hide another.
    """

    def order(square: Square) -> tuple[bool, bool, bool, float]:
        figure = square.figures[view, workload]
        return not figure.best, bool(square.differences), not figure.tied, slowness(view, figure)

    return min((s for s in squares if (view, workload) in s.figures), key=order, default=None)


def slowness(view: View, figure: Figure) -> float:
    """The smaller, the faster: seconds, or the inverse of a speed.

    Of the figure as it is shown, so that the page's script, which knows no more, picks the same.
    """
    value, _, _, unit = amount(view, figure).split(" ")
    return 1 / float(value) if unit == "tok/s" else float(value) / 1000 if unit == "ms" else float(value)


def most_telling(squares: Sequence[Square]) -> Square:
    """The square that says most of a backend without a figure: that it failed, else that it is yet to be tested,
    before what nobody asked for and what is refused.
    """
    order = (State.MEASURED, State.FAILED, State.UNTESTED, State.LEFT_OUT, State.REFUSED)
    return min(squares, key=lambda s: order.index(s.state))


def shown_first(workloads: Sequence[Workload]) -> dict[View, Workload]:
    """The workload that a reader of each view wants first: chat, and the speeds of the longest cell of one prompt."""
    if not workloads:
        return {}
    standard = list(STANDARD.values())
    chat = next((w for w in standard if w in workloads), workloads[0])
    cells = [w for w in workloads if w not in standard] or list(workloads)
    cell = max(cells, key=lambda w: (-w.batch, w.prompt_tokens))
    return {View.END_TO_END: chat, View.PREFILL: cell, View.DECODE: cell}


def launched(row: Row) -> list[Square]:
    """The squares with a story of their own: what was measured, then what failed, each in the static order."""
    return [s for state in (State.MEASURED, State.FAILED) for s in row.squares if s.state is state]
