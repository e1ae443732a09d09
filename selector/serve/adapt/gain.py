"""What another choice would gain over the candidate that answers: surely, perhaps, or nothing, by a selection."""

from dataclasses import dataclass

from calibration.measurement import OutputVerdict
from calibration.race.bounds import BAND
from selector.answer import Selection
from selector.demand.targets import SURE, percent
from selector.evidence.comparison import ratio
from selector.evidence.ranking import Ranked
from selector.served.arms import Way
from selector.served.ranking import ServedRanked, times_worse


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What selection says of the load that stands for what came."""

    selection: Selection
    fresh: frozenset[str]
    """Labels of the candidates whose times were measured here with today's versions: under load where the selection
    stands on such launches, else for static batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGain:
    """The candidate that answers is the choice, or as good as the choice."""

    best: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsure:
    """Another candidate is the choice, and nobody knows whether it is really better."""

    best: str
    why: str
    command: str
    """That measures it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Better:
    """Another candidate is better, beyond the band and beyond doubt."""

    best: str
    times: float
    """How many times more the candidate that answers takes of what the objective wants small; it may be less than 1
    where that one misses targets which the other one meets."""
    half: float
    """Half the width of the 95 % interval of that."""


Gain = NoGain | Unsure | Better


def gain_of(weighed: Weighed, running: str) -> Gain:
    """What the choice gains over the candidate that answers.

    Sure is what the selection's own judgement says: a candidate within the band of the choice, or whose ratio to it has
    1 inside its 95 % interval, is in its tie. Beside that, both must have been measured here in the same way, with
    today's versions and nothing that disturbed them, and the choice's output must have been checked.

    Args:
        running: label of the candidate that answers.
    """
    selection, best = weighed.selection, weighed.selection.candidate.label
    if best == running or running in selection.tie:
        return NoGain(best=best)
    rows = _rows(selection)
    doubt = _unmeasured(weighed, running) or _doubt(rows[best], rows[running], selection)
    if doubt:
        return Unsure(best=best, why=doubt, command=selection.demand.command("calibrate", selection.model))
    times, half = _times(rows[running], rows[best], selection)
    if times <= 1 and rows[running].meets:
        return NoGain(best=best)  # the choice was made by the static order, or by what was measured better
    return Better(best=best, times=times, half=half)


def _rows(selection: Selection) -> dict[str, ServedRanked | Ranked]:
    """By label."""
    measured: tuple[ServedRanked | Ranked, ...] = (*selection.served, *selection.ranking)
    return {row.candidate.label: row for row in measured}


def _unmeasured(weighed: Weighed, running: str) -> str:
    """What was not measured that would have to be; empty: nothing."""
    selection, best = weighed.selection, weighed.selection.candidate.label
    # A static batch of one sequence is what a server does for a load of one stream; of several it is not.
    if not selection.served and selection.slots > 1:
        return f"{selection.use.label} was not measured as served"
    if selection.prediction:
        return f"{best} is the choice by a prediction"
    rows = _rows(selection).keys() & weighed.fresh
    if missing := next((label for label in (best, running) if label not in rows), None):
        return f"{missing} was not measured for {selection.use.label} with today's versions"
    return ""


def _doubt(best: ServedRanked | Ranked, running: ServedRanked | Ranked, selection: Selection) -> str:
    """Why two candidates that were measured are not to be compared for sure; empty: they are."""
    label, targets = best.candidate.label, selection.demand.targets
    if best.agreement.verdict not in {OutputVerdict.RIGHT, OutputVerdict.LOSSY}:
        return f"the output of {label} is {best.agreement.verdict} for {selection.model}"
    if not best.meets:
        return f"no candidate is likely to meet {targets}"
    if not running.meets and (best.chance or 0.0) < SURE:
        return f"{label} meets {targets} with a probability of {percent(best.chance or 0.0)} alone"
    match best, running:
        case ServedRanked(), ServedRanked():
            return _doubt_of_served(best, running, selection)
        case Ranked(), Ranked():
            alike = best.covered and best.distance == running.distance
            return "" if alike else f"{selection.workload.label} lies outside of what was measured"
    return f"{label} and {running.candidate.label} were not measured in the same way"


def _doubt_of_served(best: ServedRanked, running: ServedRanked, selection: Selection) -> str:
    if best.way is not running.way:
        return f"{best.candidate.label} and {running.candidate.label} were not measured in the same way"
    off = 1.0
    for one in (best, running):
        label = one.candidate.label
        if one.void:
            return f"other programs disturbed every launch of {label}"
        if one.way is not Way.MEASURED and (one.way is Way.EXTRAPOLATED or one.error is None):
            return f"{selection.use.label} was not measured with {label}: its figures are {one.way}"
        off *= 1.0 + (one.error or 0.0)
    if off > 1.0 and running.value <= best.value * (1 + BAND) * off:
        return f"the figures for {selection.use.label} are interpolated, and may be off by as much as is gained"
    return ""


def _times(running: ServedRanked | Ranked, best: ServedRanked | Ranked, selection: Selection) -> tuple[float, float]:
    if isinstance(running, ServedRanked) and isinstance(best, ServedRanked):
        return times_worse(running, best, selection.objective, selection.host.device.kind)
    assert isinstance(running, Ranked) and isinstance(best, Ranked)
    found = ratio(running, best, selection.objective)
    return found.value, (found.high - found.low) / 2
