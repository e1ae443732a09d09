"""Tally: what a calibration did, and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from calibration.measurement import Agreement, Outcome
from calibration.rung import Rung


@dataclass(frozen=True, slots=True, kw_only=True)
class Sureness:
    """How sure a race on a ladder is of its picks."""

    probability: float
    """That each pick is within 3 % of the best, for every workload that was asked for: of all candidates, and, where
    some are lossy, of the others, too."""
    rung: Rung
    """That the picks were launched on: the whole model, or a few layers where it was not affordable."""
    picks: Mapping[str, str]
    """Label of the workload: that of the candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a calibration did."""

    calibration_id: str
    outcomes: tuple[Outcome, ...]
    """Everything known of this calibration, oldest first, what an earlier run had left included. Times may be another
    model's of the same shape."""
    fresh: frozenset[str]
    """run_ids of this run's launches."""
    agreements: Mapping[str, Agreement]
    """Candidate label: the verdict on its output for this config; a candidate without one is unchecked."""
    out: Mapping[str, int]
    """Candidate label: the round after which it was out of the race."""
    ended: str
    """Why it ended: `one left`, `none left`, `tied`, `rounds`; `sure`, or `on layers`: sure, or as sure as can be, and
    the whole model was not affordable; `load`: loads cost minutes, one was clear; `budget`: it left something
    undecided."""
    unmeasured: tuple[str, ...]
    """Labels of candidates without any launch, when the race was over, that may still be the best."""
    check_s: float
    """Seconds spent on references and correctness checks."""
    seconds: float
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Candidate label: why it was not launched again, or not at all: `predicted 4.1 times slower than ...`."""
    whole_refused: Mapping[str, str] = field(default_factory=dict)
    """Candidate label: why it was not launched as a whole model: memory, disk or time."""
    sureness: Sureness | None = None
    """Of a race on a ladder in which anything was launched."""
