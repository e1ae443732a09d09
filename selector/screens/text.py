"""What the user sees, as text: figures with their units, aligned columns, whole screens. Nothing here prints."""

import shutil
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from calibration.measurement import Agreement, Measurement, OutputVerdict
from calibration.noise import half_width, prior_cv
from calibration.workload import Workload
from selector.demand.objective import Objective
from selector.evidence.ranking import Ranked

DEFAULT_WIDTH = 100


def width() -> int:
    """Columns of the terminal, or DEFAULT_WIDTH where there is none."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns


def seconds(value: float) -> str:
    """A duration in three digits at most; minutes from 100 s on.

    >>> [seconds(value) for value in (61e-3, 3.271, 125, 7300)]
    ['61.0 ms', '3.27 s', '2:05 min', '2.0 h']
    """
    if value >= 99.95:
        whole = round(value)
        return f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{value / 3600:.1f} h"
    if value >= 1:
        return f"{_digits(value)} s"
    if value >= 0.000_999_5:
        return f"{_digits(value * 1e3)} ms"
    return f"{_digits(value * 1e6)} µs"


def figure(value: float) -> str:
    """A number in three digits, or as a whole number.

    >>> [figure(value) for value in (1.234, 49.81, 1833.4)]
    ['1.23', '49.8', '1,833']
    """
    return f"{value:,.{_places(value)}f}"


def share(value: float) -> str:
    """A share of a limit, in whole percents, below ten with a digit more.

    >>> [share(value) for value in (0.784, 0.0312, 1.29)]
    ['78 %', '3.1 %', '129 %']
    """
    return f"{value * 100:.{1 if value < 0.0995 else 0}f} %"


def seconds_within(value: float, half: float) -> str:
    """The value and half the width of its interval, in one unit.

    >>> seconds_within(1.92, 0.014)
    '1.92 ± 0.01 s'
    """
    unit, name = (1.0, "s") if value >= 1 else (1e-3, "ms")
    return within(value / unit, half / unit) + f" {name}"


def between(low: float, high: float) -> str:
    """An interval of durations, with its unit once where both have the same.

    >>> between(19.22, 60.3), between(0.5, 1.25)
    ('19.2 to 60.3 s', '500 ms to 1.25 s')
    """
    least, most = seconds(low), seconds(high)
    unit = least.partition(" ")[2]
    return f"{least.removesuffix(f' {unit}') if most.endswith(f' {unit}') else least} to {most}"


def within(value: float, half: float) -> str:
    """Both numbers to the digit at which the value has three.

    >>> within(719.2, 11.4), within(49.61, 0.83)
    ('719 ± 11', '49.6 ± 0.8')
    """
    places = _places(value)
    return f"{value:.{places}f} ± {half:.{places}f}"


def size(count: float) -> str:
    """Bytes as GiB, or as MiB below a tenth of that.

    >>> size(966367642), size(50 * 2**20)
    ('0.9 GiB', '50 MiB')
    """
    return f"{count / (1 << 30):.1f} GiB" if count >= 0.1 * (1 << 30) else f"{count / (1 << 20):.0f} MiB"


def amount(ranked: Ranked, objective: Objective) -> str:
    """A candidate's value by the objective, in its unit."""
    match objective.unit:
        case "bytes":
            return size(objective.of(ranked))
        case "tok/s":
            return f"{_digits(ranked.output_tps)} tok/s"
        case "req/s":
            return f"{_digits(ranked.goodput_rps)} requests a second"
        case _:
            return seconds(objective.of(ranked))


def money(cost: float) -> str:
    """A cost in three digits; its currency is the price's.

    >>> [money(cost) for cost in (0.0421, 1.2, 34.5, 1234.4)]
    ['0.0421', '1.20', '34.5', '1234']
    """
    return _digits(cost) if cost >= 1 else f"{cost:.3g}"


def parameters(count: int) -> str:
    """A number of parameters, in millions or billions.

    >>> parameters(134_515_008), parameters(7_615_616_512)
    ('135 M', '7.62 B')
    """
    if count >= 999_500_000:
        return f"{_digits(count / 1e9)} B"
    return f"{_digits(count / 1e6)} M"


def listing(names: Sequence[str]) -> str:
    """Names as a sentence lists them.

    >>> listing(['openvino', 'vllm', 'llamacpp'])
    'openvino, vllm and llamacpp'
    """
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def plural(count: int, word: str, many: str = "") -> str:
    """A number and its word, in the plural where there is not one.

    >>> plural(1, 'launch'), plural(2, 'launch'), plural(1200, 'host')
    ('1 launch', '2 launches', '1,200 hosts')
    """
    plenty = many or (f"{word}es" if word.endswith(("ch", "sh", "s", "x")) else f"{word}s")
    return f"{count:,} {word if count == 1 else plenty}"


def age(then: float, now: float | None = None) -> str:
    """How long ago a Unix time was.

    >>> age(0, now=3 * 86400), age(0, now=59)
    ('3 days ago', 'just now')
    """
    past = (time.time() if now is None else now) - then
    for unit, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if past >= unit:
            return f"{plural(int(past // unit), word)} ago"
    return "just now"


def day(then: float) -> str:
    """The date of a Unix time, in UTC.

    >>> day(1795545341)
    '2026-11-24'
    """
    return time.strftime("%Y-%m-%d", time.gmtime(then))


def _digits(value: float) -> str:
    return f"{value:.{_places(value)}f}"


def _places(value: float) -> int:
    return 0 if value >= 99.95 else 1 if value >= 9.995 else 2


def columns(rows: Iterable[Sequence[str]], align: str = "", *, gap: int = 2, across: int | None = None) -> list[str]:
    """Rows as lines of aligned columns.

    Args:
        align: a letter for each column, `<` left or `>` right; left where letters are missing.
        gap: blanks between columns.
        across: the last column is wrapped to lines of this length, under itself; None: never.

    >>> columns([("candidate", "launches"), ("vllm:eager", "3")], "<>")
    ['candidate   launches', 'vllm:eager         3']
    """
    table = [[str(cell) for cell in row] for row in rows]
    if not table:
        return []
    count = max(map(len, table))
    table = [row + [""] * (count - len(row)) for row in table]
    widths = [max(len(row[i]) for row in table) for i in range(count)]
    sides = align.ljust(count, "<")[:count]
    lines: list[str] = []
    for row in table:
        *cells, last = [f"{cell:{side}{wide}}" for cell, side, wide in zip(row, sides, widths, strict=True)]
        start = "".join(cell + " " * gap for cell in cells)
        room = (across or 0) - len(start)
        parts = textwrap.wrap(last, room, break_long_words=False, break_on_hyphens=False) if room >= 20 else [last]
        lines += [((start if i == 0 else " " * len(start)) + part).rstrip() for i, part in enumerate(parts or [""])]
    return lines


def shown_cell(cells: Iterable[Workload]) -> Workload:
    """The cell that the table shows: the longest prompt of the smallest batch."""
    return max(cells, key=lambda c: (-c.batch, c.prompt_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was measured of one figure: one value for each launch."""

    values: tuple[float, ...]
    launch_cv: float
    """How much launches on that host differ."""

    def __bool__(self) -> bool:
        return bool(self.values)

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def half_width(self) -> float:
        """Of the interval of the median: that of a single launch is what launches are known to vary by."""
        return half_width(self.values, self.launch_cv)


def cv_of_one(launch: Measurement) -> float:
    """How much launches of its device are known to differ; on an accelerator they say what they took of its memory."""
    return prior_cv("cuda" if launch.gpu_memory_bytes else "cpu")


def rate(observed: Observed) -> str:
    """`719 ± 86 tok/s`."""
    return f"{within(observed.median, observed.half_width)} tok/s"


def prefill(launches: Sequence[Measurement], workload: Workload, launch_cv: float) -> Observed:
    """Prompt tokens a second of the whole batch."""
    tokens = workload.prompt_tokens * workload.batch
    cells = [cell for launch in launches for cell in launch.cells if cell.workload == workload]
    values = tuple(tokens / cell.ttft_s for cell in cells if cell.ttft_s > 0)
    return Observed(values=values, launch_cv=launch_cv)


def decode(launches: Sequence[Measurement], workload: Workload, launch_cv: float) -> Observed:
    """New tokens a second of the whole batch."""
    cells = [cell for launch in launches for cell in launch.cells if cell.workload == workload]
    values = tuple(workload.batch / cell.tpot_s for cell in cells if cell.tpot_s)
    return Observed(values=values, launch_cv=launch_cv)


def converted(measurement: Measurement) -> str:
    """`9.25 s, 0.3 GiB`: what its conversion took and weighs; `-` where nothing was converted."""
    if measurement.prepare_s is None:
        return "-"
    return f"{seconds(measurement.prepare_s)}, {size(measurement.artifact_bytes or 0)}"


def output(agreement: Agreement) -> str:
    """`right`, `lossy (KL 0.012)`."""
    if agreement.verdict is OutputVerdict.LOSSY and agreement.kl is not None:
        return f"lossy (KL {agreement.kl:.2g})"
    return str(agreement.verdict)
