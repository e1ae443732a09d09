"""WhatIf: what is known of a machine that one does not hold, beside its HostSpec."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """A machine that was not looked at: the library or a file describes it."""

    name: str
    """As the user named it: `host:a100-40gb x2`, or the path of a file."""
    assumptions: tuple[str, ...]
    """What a plan for it takes for granted; sentences without a full stop."""
    bandwidth_gbs: float | None = None
    """What its device's memory reads at most, 10^9 bytes a second: by the data sheet, or what its probe reached. None:
    nobody says."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where the figures of a machine of the library stand: `memory`, `capability`, `bandwidth` ..."""

    def to_json(self) -> dict[str, Any]:
        """As `explain --json` and `select --json` print it."""
        return {
            "host": self.name,
            "assumptions": list(self.assumptions),
            "bandwidth_gbs": self.bandwidth_gbs,
            "sources": dict(self.sources),
        }
