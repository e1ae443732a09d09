"""Reads the launches of a calibration as decisions.py needs them: lossy candidates race with all, the others among
themselves, since a user who allows no lossy candidate must find the best of the others measured to the end.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from calibration.measurement import Cell, Failure, Measurement, Outcome
from calibration.race.rounds import decisions
from calibration.race.rounds.decisions import History, Times
from calibration.supervision.launch_spec import LaunchSpec
from calibration.workload import Workload


def failed(outcomes: Iterable[Outcome], spec: LaunchSpec) -> bool:
    """Whether a launch of a candidate failed."""
    return any(o.candidate == spec.candidate and isinstance(o, Failure) for o in outcomes)


def order(
    candidates: Sequence[LaunchSpec], still_in: Iterable[LaunchSpec], outcomes: Sequence[Outcome], number: int
) -> list[str]:
    """The order of a round, from what was known before it, so that an interrupted round goes on in the same."""
    labels = [c.label for c in still_in]
    bits = {c.label: int(re.sub(r"\D", "", c.variant.precision) or 0) for c in candidates if c.variant.lossy}
    if number == 1:
        return decisions.first_order(labels, bits)
    return decisions.order(labels, launches_by_round(candidates, outcomes, number - 1), bits)


def hopeful_first(
    candidates: Sequence[LaunchSpec], waiting: Sequence[LaunchSpec], outcomes: Sequence[Outcome]
) -> tuple[LaunchSpec, ...]:
    """Put those last who have little hope: all that their backend has launched of their kind, lossy or not, is beaten.

    The others are then launched before a budget ends early; where there is no budget the order costs nothing.

    Args:
        waiting: who is not launched yet in the first round, in order.
    """
    launched = launches_by_round(candidates, outcomes, 1)
    out, lossy = beaten(candidates, launched), _lossy(candidates)

    def is_hopeless(spec: LaunchSpec) -> bool:
        siblings = {
            label
            for label in launched
            if label.partition(":")[0] == spec.candidate.backend and (label in lossy) is spec.variant.lossy
        }
        return bool(siblings) and siblings <= out

    return tuple(sorted(waiting, key=is_hopeless))


def launches_by_round(candidates: Sequence[LaunchSpec], outcomes: Sequence[Outcome], rounds: int) -> History:
    """The history of the candidates that never failed, for so many rounds."""
    history: dict[str, list[dict[Workload, Times] | None]] = {}
    for spec in candidates:
        launches: list[dict[Workload, Times] | None] = [None] * rounds
        for outcome in outcomes:
            if isinstance(outcome, Measurement) and outcome.candidate == spec.candidate and outcome.round <= rounds:
                launches[outcome.round - 1] = _times(outcome.cells)
        if any(launches) and not failed(outcomes, spec):
            history[spec.label] = launches
    return history


def rivals(
    candidates: Iterable[LaunchSpec], outcomes: Iterable[Outcome], spec: LaunchSpec
) -> list[dict[Workload, Times]]:
    """The cells of the other candidates' launches; a candidate that is not lossy has no lossy rivals."""
    lossy = _lossy(candidates)
    return [
        _times(o.cells)
        for o in outcomes
        if isinstance(o, Measurement)
        and o.candidate != spec.candidate
        and (spec.variant.lossy or o.candidate.label not in lossy)
    ]


def ahead(cells: Iterable[Cell], rivals: Collection[Mapping[Workload, Times]]) -> bool:
    """Whether a launch is the fastest so far at anything."""
    return decisions.ahead(_times(cells), rivals)


def beaten(candidates: Iterable[LaunchSpec], history: History) -> set[str]:
    """Who is out: a lossy candidate that any other beats, and a candidate that another one beats which is not lossy."""
    lossy = _lossy(candidates)
    exact = {label: launches for label, launches in history.items() if label not in lossy}
    return decisions.eliminate(exact) | (decisions.eliminate(history) & lossy)


def over(candidates: Iterable[LaunchSpec], history: History, rounds: int) -> str | None:
    """Why the race is over; None while it goes on for the lossy candidates or for the others, each among themselves.

    Args:
        history: of those that are still in the race.
    """
    whys = [decisions.finished(group, rounds) for group in _groups(candidates, history)]
    return next((why for why in whys if why), "none left") if all(whys) else None


def rematch(candidates: Iterable[LaunchSpec], history: History) -> list[list[str]]:
    """The launches A B B A of a leader and its closest rival where they overlap.

    Of the lossy candidates and of the others, each among themselves: none, one or two lists of four labels.

    Args:
        history: after one round in which loads took minutes.
    """
    out = beaten(candidates, history)
    left = {label: launches for label, launches in history.items() if label not in out}
    rematches = [decisions.rematch(group, long_load=True) for group in _groups(candidates, left)]
    return [launches for launches in rematches if launches]


def outside(rematches: Iterable[Sequence[str]], candidates: Iterable[LaunchSpec], history: History) -> list[str]:
    """The candidates that are not launched in the rematch of their kind, which is lossy or not."""
    groups = _groups(candidates, history)
    pairs = [(launches, group) for launches in rematches for group in groups if launches[0] in group]
    return [label for launches, group in pairs for label in group if label not in launches]


def _groups(candidates: Iterable[LaunchSpec], history: History) -> list[History]:
    """The candidates that are not lossy, and the lossy ones; no group is empty."""
    lossy = _lossy(candidates)
    groups = [{n: launches for n, launches in history.items() if (n in lossy) is kind} for kind in (False, True)]
    return [group for group in groups if group]


def _lossy(candidates: Iterable[LaunchSpec]) -> set[str]:
    return {c.label for c in candidates if c.variant.lossy}


def _times(cells: Iterable[Cell]) -> dict[Workload, Times]:
    return {c.workload: (c.ttft_s, c.tpot_s) for c in cells}
