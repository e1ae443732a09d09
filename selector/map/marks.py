"""What stands in a cell of a map and what it means: the same letters and signs as text and as an SVG."""

from collections.abc import Iterator

from selector.answer import Source
from selector.demand.targets import percent
from selector.map.cells import Barred, Cell, Won
from selector.map.winner_map import WinnerMap
from selector.screens.text import age, money, plural, seconds

NOTHING = "-"
AS_GOOD, FAR, MISSED = "/", "?", "!"

_SOURCES = {
    Source.MEASURED: "measured here",
    Source.LAYERS: "predicted from a few layers measured here",
    Source.STALE: "measured here with other versions",
    Source.PREDICTED: "predicted from other hosts and models",
    Source.RULES: "the first of the static order",
}


def mark(drawn: WinnerMap, cell: Cell) -> str:
    """`A`; `A/B` where B is as good, `A?` where it is extrapolated, `A!` where it misses targets; `-` for nothing."""
    if isinstance(cell, Barred):
        return NOTHING
    rival = f"{AS_GOOD}{drawn.letters[cell.rival]}" if cell.rival else ""
    return drawn.letters[cell.label] + rival + MISSED * cell.missed + FAR * cell.extrapolated


def story(drawn: WinnerMap, cell: Cell) -> str:
    """A cell in words: `pp512:tg128:b1: onnxruntime:int4, 1.92 s, as fast as openvino:int8-pa (extrapolated)`."""
    start = cell.workload.label
    if isinstance(cell, Barred):
        return f"{start}: nothing runs it here ({cell.reason})"
    return f"{start}: {', '.join(_told(drawn, cell))}{' (extrapolated)' * cell.extrapolated}"


def title(drawn: WinnerMap, now: float | None = None) -> str:
    """Whose map it is, and where its answers come from."""
    if len(drawn.sources) == 1:
        (source,) = drawn.sources
        when = f" {age(drawn.measured_at, now)}" if drawn.measured_at is not None else ""
        how = f"{_SOURCES.get(source, source)}{when}"
    else:
        how = ", ".join(f"{_SOURCES.get(source, source)} ({count})" for source, count in drawn.sources.items())
    return f"{drawn.model} on {drawn.device}, {how}"


def question(drawn: WinnerMap) -> str:
    """What was asked of every cell."""
    demand = drawn.demand
    among = f", among those that meet {demand.targets}" if demand.targets else ""
    return f"best {demand.objective} ({demand.objective.sentence}){among}"


DIRECTIONS = "prompt tokens (pp) to the right, new tokens (tg) upwards"


def candidates(drawn: WinnerMap) -> Iterator[tuple[str, str, str, str]]:
    """(letter, label, how many workloads it wins, what always taking it costs) of each that has a letter.

    The cost is left out where there are targets: who is faster and misses them is no better.
    """
    for label, letter in drawn.letters.items():
        always = None if drawn.demand.targets else drawn.always(label)
        cost = f"always: {always.geomean:.2f} times the best, at worst {always.worst:.2f}" if always else ""
        if always and always.unable > len(drawn.barred):
            cost += f", and it cannot run {plural(always.unable - len(drawn.barred), 'workload')}"
        yield letter, label, f"{drawn.wins[label]} of {len(drawn.cells)}", cost


def signs(drawn: WinnerMap) -> Iterator[tuple[str, str]]:
    """Each sign that the map has, and what it means."""
    first, *others = drawn.letters.values()
    if any(cell.rival for cell in drawn.won):
        known = "this is known" if any(cell.expected for cell in drawn.won) else "the launches can tell"
        yield f"{first}{AS_GOOD}{others[0]}", f"{first}, and {others[0]} is as good as far as {known}"
    if any(cell.missed for cell in drawn.won):
        yield f"{first}{MISSED}", f"the nearest; no candidate meets {drawn.demand.targets}"
    if any(cell.extrapolated for cell in drawn.won):
        yield f"{first}{FAR}", "extrapolated: outside of the measured cells"
    if drawn.barred:
        yield NOTHING, f"nothing runs it here ({drawn.barred[0].reason})"


def sentence(drawn: WinnerMap) -> str:
    """What a person would say of it."""
    winner, wins = next(iter(drawn.wins.items()))
    everywhere = wins == len(drawn.won)
    which = "every workload that runs here" if everywhere else f"{wins} of {plural(len(drawn.cells), 'workload')}"
    told = f"{winner} is the best at {which}"
    if missed := sum(cell.missed for cell in drawn.won):
        told += f"; at {missed} of them the targets are missed" if everywhere else f"; {missed} miss the targets"
    if everywhere or drawn.demand.targets or drawn.steadiest is None:
        return f"{told}."
    label, always = drawn.steadiest
    who = "always taking it" if label == winner else f"always taking {label}"
    return f"{told}; {who} costs {always.geomean:.2f} times the best (geometric mean), at worst {always.worst:.2f}."


def _told(drawn: WinnerMap, cell: Won) -> Iterator[str]:
    yield cell.label
    if cell.e2e_s is not None:
        yield ("predicted " if cell.expected else "") + seconds(cell.e2e_s)
    if cell.pick.ranked is not None and (costs := cell.pick.ranked.costs):
        yield f"{money(costs.output)} per M new tokens"
    if cell.expected is not None:
        yield f"the best with a probability of {percent(cell.expected.p_best)}"
    if cell.pick.tie:
        yield f"as {drawn.demand.objective.good} as {' and '.join(cell.pick.tie)}"
    if cell.missed:
        yield "misses the targets"
