"""What a calibration of candidates as servers did."""

from collections.abc import Mapping
from dataclasses import dataclass

from calibration.load.load import Load
from calibration.measurement import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTally:
    """What it did."""

    calibration_id: str
    loads: tuple[Load, ...]
    """That were asked for."""
    outcomes: tuple[Outcome, ...]
    """Everything known of it, the oldest first, what an earlier run had left included; checks, too."""
    fresh: frozenset[str]
    """run_ids of this run's launches."""
    out: Mapping[str, str]
    """Candidate label: why it was not started again, or never."""
    ended: str
    """`one left`, `none left`, `tied`, `sure`, `rounds`, `budget`."""
    unmeasured: tuple[str, ...]
    """Labels of candidates that were never started, for want of time."""
    check_s: float
    """Seconds spent on references and correctness checks."""
    seconds: float
    picks: tuple[str, ...] = ()
    """Labels of the best: for each load, of all and of those that are not lossy."""
    sureness: float = 0.0
    """The probability that these are within 3 % of the best, of all that were served; 0 where nothing was."""
