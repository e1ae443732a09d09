"""What a calibration reports: its plan, what it makes first, and then what its runner reports."""

from collections.abc import Mapping
from dataclasses import dataclass

from calibration.events import Event
from calibration.probing.probe import Probe
from calibration.rung import Rung
from selector.planning.plan import Plan
from selector.planning.preparations import Preparations


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationsKnown:
    preparations: Preparations


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far a ladder will probably go on one rung, and what that takes."""

    rung: Rung
    candidates: int
    at_most: bool
    """Fewer may do: only who may still be the best climbs from a rung below."""
    seconds: float
    bytes: int
    """That are written: weights and conversions."""
    refused: Mapping[str, str]
    """Candidate label: why it cannot be launched on this rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderPlanned:
    """The rungs of a race, the shallow ones first."""

    reaches: tuple[Reach, ...]


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


CalibrationEvent = Planned | PreparationsKnown | LadderPlanned | ProbeBegan | ProbeEnded | ProbeFailed | Event
