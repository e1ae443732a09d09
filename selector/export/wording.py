"""How a square of the matrix is told in a few words, on every page alike."""

from calibration.measurement import Failure, Measurement
from calibration.workload import STANDARD, Workload
from selector.matrix import Figure, Matrix, Square, State, View
from selector.screen import output, seconds_within, within

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


def reproduce(model: str, label: str = "") -> str:
    """The command that measures it again."""
    import shlex

    only = ["--backends", label] if label else []
    return shlex.join(["autobackend", "calibrate", model, *only])
