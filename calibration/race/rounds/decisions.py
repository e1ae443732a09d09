"""Who is measured next, who is out, and when it is over: decisions on what was measured, no clock, no process.

Two processes of one candidate differ more than two repeats inside one (CV 12 % against 5 % on a shared two-core host),
so what is sampled is the launch. A round launches every candidate that is still in the race once; candidates are
compared within rounds, by the ratios of their times, so that a slow drift of the machine hits both sides of a ratio.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, zip_longest
from statistics import median

from calibration.noise import SHARED_CPU_CV, interval
from calibration.race.bounds import BAND
from calibration.workload import Workload

Times = tuple[float, float | None]
"""TTFT and TPOT of a cell, seconds."""

Rounds = Sequence[Mapping[Workload, Times] | None]
"""Of one candidate, for each round: the cells of its launch; None where it was not launched."""

History = Mapping[str, Rounds]
"""Candidate label: its rounds."""

RATIO_CV = SHARED_CPU_CV * math.sqrt(2)
"""Spread of the ratio of two launches' times, before any was seen."""


def first_order(labels: Sequence[str], bits: Mapping[str, int] | None = None) -> list[str]:
    """The order of the first round, in which nothing is known.

    The first variant of each backend comes before the second of any, so that every backend is met before a budget
    ends early. Within a backend lossy variants take turns with the others, those with the fewest bits first: decoding
    reads all weights for every token, so they are likely to win.

    Args:
        bits: label of each lossy candidate: bits of its weights.

    >>> first_order(["a:f32", "a:f16", "a:q4", "b:fp32"], {"a:q4": 4})
    ['a:f32', 'b:fp32', 'a:q4', 'a:f16']
    """
    bits = bits or {}
    places: dict[str, int] = {}
    for backend in dict.fromkeys(label.partition(":")[0] for label in labels):
        variants = [label for label in labels if label.partition(":")[0] == backend]
        lossy = sorted((label for label in variants if label in bits), key=lambda label: bits[label])
        places |= _in_turn([label for label in variants if label not in bits], lossy)
    return sorted(labels, key=places.__getitem__)


def order(labels: Iterable[str], history: History, lossy: Collection[str] = ()) -> list[str]:
    """The order of a later round: the nearest to the leader first, a lossy candidate after each that is not lossy.

    Rivals are then launched within minutes of each other, so that a drift hits both alike, and before a budget ends
    early. Candidates that were given up before their last cell come after the others; those never launched come last.

    Args:
        history: the rounds before.
    """

    def behind(label: str) -> tuple[int, float]:
        launches = [cells for cells in history.get(label, ()) if cells]
        return (-max(map(len, launches)), _score(launches)) if launches else (0, 0.0)

    nearest_first = sorted(labels, key=behind)
    places = _in_turn((n for n in nearest_first if n not in lossy), (n for n in nearest_first if n in lossy))
    return sorted(nearest_first, key=places.__getitem__)


def ahead(cells: Mapping[Workload, Times], others: Collection[Mapping[Workload, Times]]) -> bool:
    """Whether a launch is the fastest so far at anything: end to end, in prefill or in decoding, on one of its cells.

    Args:
        others: the cells of its rivals' launches. It is not ahead on a cell that no rival has.
    """
    for workload, times in cells.items():
        rivals = [_figures(workload, other[workload]) for other in others if workload in other]
        figures = zip(_figures(workload, times), *rivals, strict=False)
        if rivals and any(mine <= min(theirs) for mine, *theirs in figures):
            return True
    return False


def eliminate(history: History, band: float = BAND) -> set[str]:
    """Candidates that are out: another one is faster, beyond doubt, on every cell.

    A candidate is out if there is another such that, on every cell, the 95 % interval of the ratio of their end-to-end
    times lies wholly above 1, and neither its prefill nor its decoding alone is ahead by more than the band: it could
    win neither the cells nor a workload between them nor another objective. The leader is never out.
    """
    labels = [label for label, launches in history.items() if any(launches)]
    if len(labels) < 2:
        return set()
    first = leader(history)
    return {
        label
        for label in labels
        if label != first and any(_beaten(history[label], history[other], band) for other in labels if other != label)
    }


def finished(history: History, rounds: int, *, band: float = BAND) -> str | None:
    """Why the race is over: `one left`, `tied`, `rounds`; None while it goes on.

    Args:
        history: of the candidates that are still in the race.
        rounds: at most.
        band: candidates are tied when every ratio of two of them is inside it, beyond doubt, on every cell.
    """
    if len(history) < 2:
        return "one left" if history else "none left"
    pairs = combinations(history.values(), 2)
    if all(_tied(one, other, band) for one, other in pairs):
        return "tied"
    return "rounds" if max(map(len, history.values())) >= rounds else None


def rematch(history: History, *, long_load: bool, band: float = BAND) -> list[str]:
    """Launches that decide between the leader and its closest rival where a load costs minutes: A B B A, or none.

    They replace further rounds of all: after one round the two are launched twice more, in an order that cancels a
    drift, unless one is faster beyond doubt or they are tied.

    Args:
        history: of one round.
        long_load: loading takes much longer than measuring.
    """
    out = eliminate(history, band)
    still_in = {label: launches for label, launches in history.items() if label not in out and any(launches)}
    if not long_load or len(still_in) < 2:
        return []
    first, second = sorted(still_in, key=lambda label: _score(still_in[label]))[:2]
    return [] if _tied(still_in[first], still_in[second], band) else [first, second, second, first]


def leader(history: History) -> str:
    """The candidate with the least end-to-end time, in the geometric mean of its cells and the median of its launches.

    Raises:
        ValueError: nothing was launched.
    """
    return min(
        (label for label, launches in history.items() if any(launches)), key=lambda label: _score(history[label])
    )


def _in_turn(exact: Iterable[str], lossy: Iterable[str]) -> dict[str, int]:
    """Places of the labels: the first exact one, the first lossy one, the second exact one ..."""
    pairs = zip_longest(exact, lossy)
    return {label: place for place, label in enumerate(label for pair in pairs for label in pair if label is not None)}


def _score(launches: Rounds) -> float:
    return median(sum(math.log(_e2e(w, t)) for w, t in cells.items()) / len(cells) for cells in launches if cells)


def _beaten(slow: Rounds, fast: Rounds, band: float) -> bool:
    ratios = list(_ratios(slow, fast))
    return bool(ratios) and all(
        interval(e2e, RATIO_CV)[0] > 1.0 and all(median(alone) >= 1.0 - band for alone in (ttft, tpot) if alone)
        for e2e, ttft, tpot in ratios
    )


def _tied(one: Rounds, other: Rounds, band: float) -> bool:
    ratios = list(_ratios(one, other))
    return bool(ratios) and all(_inside(interval(e2e, RATIO_CV), band) for e2e, _, _ in ratios)


def _inside(bounds: tuple[float, float], band: float) -> bool:
    return bounds[0] >= 1.0 / (1.0 + band) and bounds[1] <= 1.0 + band


def _ratios(one: Rounds, other: Rounds) -> Iterator[tuple[list[float], list[float], list[float]]]:
    """For each cell that both have: ratios of E2E, TTFT and TPOT, one for each round in which both were launched."""
    rounds = [(a, b) for a, b in zip(one, other, strict=False) if a and b]
    for workload in {w: None for a, b in rounds for w in a if w in b}:
        both = [(a[workload], b[workload]) for a, b in rounds if workload in a and workload in b]
        yield (
            [_e2e(workload, a) / _e2e(workload, b) for a, b in both],
            [a[0] / b[0] for a, b in both],
            [a[1] / b[1] for a, b in both if a[1] and b[1]],
        )


def _figures(workload: Workload, times: Times) -> tuple[float, ...]:
    """End to end, prefill, and decoding where there is any."""
    ttft, tpot = times
    return (_e2e(workload, times), ttft, *([tpot] if tpot else []))


def _e2e(workload: Workload, times: Times) -> float:
    ttft, tpot = times
    return ttft + (workload.output_tokens - 1) * (tpot or 0.0)
