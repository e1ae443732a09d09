"""How the candidates stand, told by their launches: lossy ones race with all, the others among themselves.

Who asks without allowing lossy candidates must find the best of the others measured to the end.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from calibration.measurement import Cell, Failure, Measurement, Outcome
from calibration.race import decisions as race
from calibration.supervision.launch_spec import LaunchSpec
from calibration.workload import Workload


def failed(outcomes: Iterable[Outcome], entry: LaunchSpec) -> bool:
    """Whether a launch of it failed."""
    return any(o.candidate == entry.candidate and isinstance(o, Failure) for o in outcomes)


def order(
    entries: Sequence[LaunchSpec], still: Iterable[LaunchSpec], outcomes: Sequence[Outcome], number: int
) -> list[str]:
    """The order of a round: of what is known before it, so that an interrupted one goes on in the same.

    Args:
        still: those that are in it.
    """
    labels = [e.label for e in still]
    lossy = {e.label: int(re.sub(r"\D", "", e.variant.precision) or 0) for e in entries if e.variant.lossy}
    if number == 1:
        return race.first_order(labels, lossy)
    return race.order(labels, history(entries, outcomes, number - 1), lossy)


def hopeful_first(entries: Sequence[LaunchSpec], labels: Sequence[str], outcomes: Sequence[Outcome]) -> list[str]:
    """Who is left of a first round, who has little hope last: all that its backend has launched of its kind is beaten.

    A budget that ends early has then met the others; where there is none the order costs nothing.

    Args:
        labels: not launched yet, in their order.
    """
    launched = history(entries, outcomes, 1)
    out, lossy = beaten(entries, launched), {e.label for e in entries if e.variant.lossy}

    def hopeless(label: str) -> bool:
        backend = label.partition(":")[0]
        siblings = {n for n in launched if n.partition(":")[0] == backend and (n in lossy) is (label in lossy)}
        return bool(siblings) and siblings <= out

    return sorted(labels, key=hopeless)


def history(entries: Sequence[LaunchSpec], outcomes: Sequence[Outcome], rounds: int) -> race.Standing:
    """One row a candidate that never failed: its cells in each round, None where it was not launched."""
    found: dict[str, list[dict[Workload, race.Times] | None]] = {}
    for entry in entries:
        launches: list[dict[Workload, race.Times] | None] = [None] * rounds
        for outcome in outcomes:
            if isinstance(outcome, Measurement) and outcome.candidate == entry.candidate and outcome.round <= rounds:
                launches[outcome.round - 1] = _times(outcome.cells)
        if any(launches) and not failed(outcomes, entry):
            found[entry.label] = launches
    return found


def rivals(
    entries: Iterable[LaunchSpec], outcomes: Iterable[Outcome], entry: LaunchSpec
) -> list[dict[Workload, race.Times]]:
    """The cells of the others' launches: of a candidate that is not lossy those of its like only."""
    lossy = {e.label for e in entries if e.variant.lossy}
    return [
        _times(o.cells)
        for o in outcomes
        if isinstance(o, Measurement)
        and o.candidate != entry.candidate
        and (entry.variant.lossy or o.candidate.label not in lossy)
    ]


def ahead(cells: Iterable[Cell], rivals: Collection[Mapping[Workload, race.Times]]) -> bool:
    """Whether a launch is the fastest so far at anything."""
    return race.ahead(_times(cells), rivals)


def beaten(entries: Iterable[LaunchSpec], history: race.Standing) -> set[str]:
    """Who is out: a lossy candidate by any other, one that is not by its like only."""
    lossy = {e.label for e in entries if e.variant.lossy}
    exact = {label: launches for label, launches in history.items() if label not in lossy}
    return race.eliminate(exact) | (race.eliminate(history) & lossy)


def over(entries: Iterable[LaunchSpec], history: race.Standing, rounds: int) -> str | None:
    """Why the race is over: it is so for the lossy candidates and for the others, each among themselves.

    Args:
        history: of those that are still in it.
    """
    lossy = {e.label for e in entries if e.variant.lossy}
    groups = [{n: h for n, h in history.items() if (n in lossy) is kind} for kind in (False, True)]
    whys = [race.finished(group, rounds) for group in groups if group]
    return next((w for w in whys if w), "none left") if all(whys) else None


def _times(cells: Iterable[Cell]) -> dict[Workload, race.Times]:
    return {c.workload: (c.ttft_s, c.tpot_s) for c in cells}
