"""What a host of a fleet can be told to do, and what came of it so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from selector.evidence.likeness import Likeness
from selector.fleet.groups import Kin


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrate:
    """A host calibrates a model."""

    host: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotCheck:
    """A host launches the two best of its group once."""

    host: str
    model: str
    labels: tuple[str, ...]
    of: str
    """The host that calibrated the model."""


Task = Calibrate | SpotCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What came of a host, or is known of it so far."""

    host: str
    kin: Kin
    calibrated: tuple[str, ...]
    """Models that were calibrated on it."""
    checked: tuple[str, ...]
    """Models on which it was compared with its group by a spot check."""
    likeness: Likeness | None
    """None: nobody compared it yet."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Model: why it could not be measured there."""
    gone: str = ""
    """Why it takes no more tasks."""

    @property
    def inherits(self) -> bool:
        """Whether what was measured on the others of its group holds for it."""
        return self.likeness is not None and self.likeness.models > 0 and self.likeness.alike

    def to_json(self) -> dict[str, Any]:
        """As `autobackend fleet calibrate --json` prints it."""
        likeness = self.likeness
        return {
            "host": self.host,
            "calibrated": list(self.calibrated),
            "checked": list(self.checked),
            "inherits": self.inherits,
            "ratio": likeness.ratio if likeness else None,
            "limit": likeness.limit if likeness else None,
            "turned": dict(likeness.turned) if likeness else {},
            "failed": dict(self.failed),
            "gone": self.gone or None,
        }
