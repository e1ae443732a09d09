"""What a calibration reports: its plan, what it makes first, and then what its runner reports."""

from dataclasses import dataclass

from calibration.events import Event
from selector.planning.plan import Plan
from selector.planning.preparations import Preparations


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationsKnown:
    preparations: Preparations


CalibrationEvent = Planned | PreparationsKnown | Event
