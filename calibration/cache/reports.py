"""What an import did, and how well a cache is."""

from dataclasses import dataclass
from typing import Any

from calibration.cache.exchange import BadLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did."""

    added: int
    duplicates: int
    """Launches that were there already."""
    probes: int = 0
    """Probes of machines that were new."""
    bad: tuple[BadLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `Cache.check` says of a cache."""

    rows: int
    unreadable: dict[str, str]
    """run_id, or probe_id: why its row cannot be read. Lookups leave such a row out."""
    damage: tuple[str, ...]
    """Sentences of the database's own integrity check; empty when it is well."""

    @property
    def healthy(self) -> bool:
        return not self.unreadable and not self.damage

    def to_json(self) -> dict[str, Any]:
        """As `autobackend cache check --json` prints it."""
        return {"rows": self.rows, "unreadable": self.unreadable, "damage": list(self.damage)}
