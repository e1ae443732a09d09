"""What a tally says in short: who failed where, and how often each was launched."""

from calibration.measurement import Failure, FailureKind, Measurement
from calibration.race.tally import Tally


def failures(tally: Tally) -> dict[str, tuple[FailureKind, str]]:
    return {o.candidate.label: (o.kind, o.stage) for o in tally.outcomes if isinstance(o, Failure)}


def launches(tally: Tally) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome in tally.outcomes:
        if isinstance(outcome, Measurement):
            found[outcome.candidate.label] = found.get(outcome.candidate.label, 0) + 1
    return found
