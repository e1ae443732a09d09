"""What a calibration reports: its plan, what it makes first, and then what its runner reports."""

from dataclasses import dataclass

from calibration.events import Event
from calibration.probe import Probe
from selector.planning.plan import Plan
from selector.planning.preparations import Preparations


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationsKnown:
    preparations: Preparations


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeBegan:
    """The machine is probed, since the cache has no probe of it."""

    expected_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEnded:
    probe: Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailed:
    """The machine cannot be probed; the calibration goes on without."""

    message: str


CalibrationEvent = Planned | PreparationsKnown | ProbeBegan | ProbeEnded | ProbeFailed | Event
