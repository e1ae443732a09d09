"""How a square of the matrix is told in a few words, on every page alike."""

import shlex
from collections.abc import Sequence

from calibration.measurement import Failure, Measurement
from calibration.workload import STANDARD, Workload, grid
from selector.publish.figures import Figure, View
from selector.publish.matrix import Again, Matrix, Row, Square, State
from selector.refusals import grouped
from selector.screens import text as screen
from selector.screens.text import output, seconds_within, within

TITLES = {View.END_TO_END: "End to end", View.PREFILL: "Prefill", View.DECODE: "Decode"}

LEGEND = (
    ("★", "the fastest"),
    ("≈", "as fast as the fastest: the launches cannot tell them apart"),
    ("⊘", "refused by a rule"),
    ("✕", "failed when it was measured"),
    ("·", "not tested"),
    ("○", "left out unless asked for"),
    ("stale", "measured with other versions than are installed now"),
    ("lossy", "less precise than the model; never chosen unless allowed"),
    ("~", "computed from the cells that were timed"),
    ("extrapolated", "beyond the cells that were timed"),
)

_MARKS = {State.FAILED: "✕", State.REFUSED: "⊘", State.LEFT_OUT: "○", State.UNTESTED: "·"}


def mark(square: Square, figure: Figure | None) -> str:
    """One sign for what a square is: told by its shape, without colour."""
    if figure is None:
        return "" if square.state is State.MEASURED else _MARKS[square.state]
    return "★" if figure.best else "≈" if figure.tied else ""


def short(square: Square, view: View, figure: Figure | None) -> str:
    """`~3.27 ± 0.05 s`, `719 ± 11 tok/s`, `refused: needs an NVIDIA GPU`."""
    if figure is not None:
        about = "~" if figure.estimated else ""
        if view is View.END_TO_END:
            return about + seconds_within(figure.median, figure.half)
        return f"{about}{within(figure.median, figure.half)} tok/s"
    match square.state:
        case State.MEASURED:
            return "not timed"
        case State.FAILED:
            assert isinstance(square.last, Failure)
            return f"{square.last.kind} in {square.last.stage}"
        case State.UNTESTED:
            return "not tested"
        case _:
            reason = square.reasons[0].partition("; ")[0]
            return f"{square.state}: {reason if len(reason) <= 48 else reason[:47].rstrip() + '…'}"


def tags(square: Square, figure: Figure | None) -> list[str]:
    """`stale`, `lossy (KL 0.012)`, `extrapolated`: what a figure must not be read without."""
    found = ["stale"] if square.differences else []
    if square.lossy and isinstance(square.last, Measurement):
        found.append(output(square.last.agreement))
    if figure is not None and figure.extrapolated:
        found.append("extrapolated")
    return found


def called(workload: Workload) -> str:
    """`chat (pp512:tg128:b1)`, or the label alone."""
    name = next((name for name, w in STANDARD.items() if w == workload), "")
    return f"{name} ({workload.label})" if name else workload.label


def shown_first(matrix: Matrix) -> dict[View, Workload]:
    """The workload of each view that a reader wants first: chat, and the speeds of the longest cell of one prompt."""
    if not matrix.workloads:
        return {}
    standard = list(STANDARD.values())
    chat = next((w for w in standard if w in matrix.workloads), matrix.workloads[0])
    cells = [w for w in matrix.workloads if w not in standard] or list(matrix.workloads)
    cell = max(cells, key=lambda w: (-w.batch, w.prompt_tokens))
    return {View.END_TO_END: chat, View.PREFILL: cell, View.DECODE: cell}


def reproduce(model: str, again: Again) -> str:
    """The command that measures it again: the same cells of the same candidates."""
    words = ["autobackend", "calibrate", model]
    if set(again.cells) not in ({*grid()}, {*grid(gpu=True)}):
        # The two corners bracket what lies between them.
        corners = [
            Workload(prompt_tokens=pick(c.prompt_tokens for c in again.cells), output_tokens=output_tokens, batch=batch)
            for pick, output_tokens, batch in (
                (min, again.cells[0].output_tokens, min(c.batch for c in again.cells)),
                (max, again.cells[0].output_tokens, max(c.batch for c in again.cells)),
            )
        ]
        for corner in dict.fromkeys(corners):
            words += ["--workload", corner.label]
    if again.backends:
        words += ["--backends", ",".join(again.backends)]
    if again.lossy:
        words.append("--allow-lossy")
    if again.devices > 1:
        words += ["--tensor-parallel", str(again.devices)]
    return shlex.join(words)


def reproduce_one(row: Row, square: Square) -> str:
    """The command that measures one square again."""
    cells = tuple(c.workload for c in square.measurement.cells) if square.measurement else grid()
    again = Again(cells=cells, backends=(square.label,), lossy=square.lossy, devices=row.identity.device_count)
    return reproduce(row.model, again)


def converted(square: Square) -> str:
    """`9.25 s, 0.3 GiB`: what its conversion took and weighs; `-` where nothing is converted or known."""
    return screen.converted(square.measurement) if square.measurement else "-"


def best_of(squares: Sequence[Square], view: View, workload: str) -> tuple[Square | None, Square | None]:
    """The fastest of one backend's squares that is as precise as the model, and the fastest that is lossy."""

    def fastest(lossy: bool) -> Square | None:
        timed = [s for s in squares if (view, workload) in s.figures and s.lossy == lossy]
        # What may win comes before what may not: stale figures show, and do not hide others.
        return max(
            timed,
            key=lambda s: (
                s.figures[view, workload].best,
                not s.differences,
                s.figures[view, workload].tied,
                s.figures[view, workload].share,
                _speed(view, s.figures[view, workload]),
            ),
            default=None,
        )

    return fastest(lossy=False), fastest(lossy=True)


def _speed(view: View, figure: Figure) -> float:
    return -figure.median if view is View.END_TO_END else figure.median


def telling(squares: Sequence[Square]) -> Square:
    """The square that says most of a backend that has no figure: a failure, else that
    something is yet to be tested, before what nobody asked for and what is refused.
    """
    order = (State.MEASURED, State.FAILED, State.UNTESTED, State.LEFT_OUT, State.REFUSED)
    return min(squares, key=lambda s: order.index(s.state))


def of_backend(row: Row, backend: str) -> list[Square]:
    """A backend's squares, in the static order."""
    return [s for s in row.squares if s.backend == backend]


def launched(row: Row) -> list[Square]:
    """The squares with a story of their own: what was measured, then what failed, each in the static order."""
    return [s for state in (State.MEASURED, State.FAILED) for s in row.squares if s.state is state]


def unlaunched(row: Row) -> list[tuple[str, str]]:
    """(variants, reasons) of what was refused, left out or not tested; what has the same story together."""
    told = [
        (s.label, ", and ".join(s.reasons) or str(s.state))
        for s in row.squares
        if s.state not in {State.MEASURED, State.FAILED}
    ]
    found = []
    for name, text in grouped(told):
        backend, _, variants = name.partition(":")
        whole = len(variants.split(",")) == len(of_backend(row, backend)) > 1
        found.append((backend if whole else name, text))
    return found


def idle(row: Row) -> str:
    """`3 variants of turbomind and vllm`: what was not launched, in a few words."""
    squares = [s for s in row.squares if s.state not in {State.MEASURED, State.FAILED}]
    backends = list(dict.fromkeys(s.backend for s in squares))
    return f"{screen.plural(len(squares), 'variant')} of {screen.listing(backends)}"
