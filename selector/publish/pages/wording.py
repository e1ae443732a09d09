"""How a square of the matrix is told in a few words, on every page alike."""

from calibration.measurement import Failure, OutputVerdict
from calibration.workload import STANDARD, Workload
from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.figures import Figure, View
from selector.publish.matrix.matrix import Row, Square, State
from selector.publish.matrix.not_launched import NotLaunched
from selector.publish.matrix.shares import of_memory, of_products
from selector.screens import text as screen
from selector.screens.probe import reaches
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
    ("unchecked", "its output was not compared with this model's"),
    ("~", "computed from the cells that were timed"),
    ("extrapolated", "beyond the cells that were timed"),
)

OF_THE_MACHINE = (
    "Of the machine: which share of the matrix rate that its probe found a prefill reaches, and a decode step of the"
    " memory bandwidth, in the cell of one sequence with the longest prompt. Above 100 % it was read from the last"
    " cache, or the machine was faster then."
)

AS_SERVED = (
    "Through HTTP, by autobackend serve, with the load that the title names: streams that each ask again when their"
    " answer has ended (c8: eight), or requests that come by chance (r0.5: one in two seconds)."
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
        return ("~" if figure.estimated else "") + amount(view, figure)
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


def amount(view: View, figure: Figure) -> str:
    """`3.27 ± 0.05 s`, `719 ± 11 tok/s`."""
    if view is View.END_TO_END:
        return seconds_within(figure.median, figure.half)
    return f"{within(figure.median, figure.half)} tok/s"


def percent(figure: Figure) -> int:
    """Length of a figure's bar."""
    return max(1, round(100 * figure.share))


def tags(square: Square, figure: Figure | None) -> list[str]:
    """`stale`, `lossy (KL 0.012)`, `unchecked`, `extrapolated`: what a figure must not be read without."""
    words = ["stale"] if square.differences else []
    if square.measurement and square.measurement.agreement.verdict is not OutputVerdict.RIGHT:
        words.append(output(square.measurement.agreement))
    if figure is not None and figure.extrapolated:
        words.append("extrapolated")
    return words


def called(workload: Workload) -> str:
    """`chat (pp512:tg128:b1)`, or the label alone."""
    name = next((name for name, w in STANDARD.items() if w == workload), "")
    return f"{name} ({workload.label})" if name else workload.label


def converted(square: Square) -> str:
    """`9.25 s, 0.3 GiB`: what its conversion took and weighs; `-` where nothing is converted or known."""
    return screen.converted(square.measurement) if square.measurement else "-"


def machine(host: HostResults) -> str:
    """CPU, cores and memory, and what the machine's probe reached."""
    if host.probe is None:
        return host.machine
    return f"{host.machine}; {reaches(host.probe)} (probed {screen.day(host.probe.taken_at)})"


def reached(square: Square) -> str:
    """`41 % of int8, 78 % of memory`: what it reaches of the machine, in prefill and in decode."""
    if not square.shares:
        return "-"
    cell = screen.shown_cell(cell.workload for cell in square.cells).label
    products, memory = of_products(square.shares, cell), of_memory(square.shares, cell)
    return ", ".join(part for part in (products, f"{memory} of memory") if not part.startswith("-")) or "-"


def precision(row: Row) -> str:
    """`float16, awq-4bit-g128, 2 devices`, `bfloat16, on 6 of 32 layers`: what a model's name does not say."""
    key = row.identity
    words = [key.dtype] + ([key.quant] if key.quant != "none" else [])
    words += [f"{key.device_count} devices"] if key.device_count > 1 else []
    return ", ".join(words + ([f"on {key.layers}"] if key.cut else []))


def models_of(group: NotLaunched, everything: int) -> str:
    """The models of what was not launched; `every model` where it holds for all of the host's."""
    return "every model" if len(group.models) == everything > 1 else ", ".join(group.models)
