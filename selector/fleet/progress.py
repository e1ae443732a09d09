"""What a fleet does while it is calibrated, as it is told, and what that came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from calibration.errors import FleetIncomplete, NothingMeasured
from selector.fleet.groups import Kin
from selector.fleet.tasks import Standing, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What a node does."""

    node: str
    task: Task
    now: str
    """What its command says of itself."""
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The fleet at a moment."""

    doing: tuple[Doing, ...]
    calibrations_left: int
    checks_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of a task, as it is told while the fleet works."""

    task: Task
    how: str
    """`measured`, or why not."""
    seconds: float


class FleetReporter(Protocol):
    """Is told what the fleet does."""

    def now(self, now: Now, /) -> None:
        """About every second."""

    def came(self, came: Came, /) -> None:
        """After each task."""

    def said(self, sentence: str, /) -> None:
        """What is good to know: a node died, a device is busy, the database does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetResult:
    """What a calibration of a fleet came to."""

    standings: tuple[Standing, ...]
    given_up: Mapping[Kin, Mapping[str, str]]
    unusable: Mapping[str, str]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every host has an answer for every model: its own, or its group's."""
        return not self.given_up and all(one.inherits or one.calibrated for one in self.standings if not one.gone)

    def require_answers(self) -> None:
        """Raises NothingMeasured where no host has an answer, FleetIncomplete where some host lacks one."""
        if not any(standing.calibrated for standing in self.standings):
            raise NothingMeasured("no host has an answer for any model", "see the reasons above")
        if not self.complete:
            without = sorted({model for models in self.given_up.values() for model in models})
            lacking = [one.host for one in self.standings if not (one.inherits or one.calibrated or one.gone)]
            raise FleetIncomplete(
                f"not every host has an answer for every model; without one: {', '.join([*without, *lacking])}",
                "see the reasons above; the same command tries them again, and measures nothing twice",
            )

    def to_json(self) -> dict[str, Any]:
        """As `autobackend fleet calibrate --json` prints it."""
        return {
            "complete": self.complete,
            "seconds": self.seconds,
            "hosts": [standing.to_json() for standing in self.standings],
            "given_up": [{"group": kin.to_json(), "models": dict(models)} for kin, models in self.given_up.items()],
            "unusable": dict(self.unusable),
        }
