"""Choice: what loading asks of a Selection."""

from dataclasses import replace
from typing import Protocol

from calibration.measurement import Candidate
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec


class Choice(Protocol):
    """What loading asks of a Selection."""

    @property
    def model(self) -> str: ...
    @property
    def spec(self) -> ModelSpec: ...
    @property
    def candidate(self) -> Candidate: ...
    @property
    def host(self) -> HostSpec: ...
    @property
    def demand(self) -> Demand: ...
    @property
    def slots(self) -> int: ...
    @property
    def threads(self) -> int: ...


def calibrate_it(choice: Choice) -> str:
    """The command that calibrates what was chosen, and it alone."""
    return replace(choice.demand, backends=(choice.candidate.label,)).command("calibrate", choice.model)
