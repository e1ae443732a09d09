"""Provenance: which cache the launches behind an answer were read from, the user's own or the fleet's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from calibration.cache.cache import Cache
from calibration.cache.lookups import Level
from calibration.measurement import Identity

LaunchKey = tuple[str, str, int, float]
"""Candidate, calibration, round and start: what tells launches apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """A cache, and the launches of the answer that were read from it."""

    level: Level = field(repr=False)
    launches: int
    host: str
    """That they ran on."""
    newest: float
    """Unix time of the newest of them."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it."""
        return {
            "cache": self.level.name,
            "location": self.level.location,
            "launches": self.launches,
            "host": self.host,
            "newest": self.newest,
            "made_at": self.level.made_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The caches that answer, and which launches of a model's key the fleet's alone has."""

    own: Level
    fleet: Level | None
    of_fleet: frozenset[LaunchKey] = frozenset()

    def provenance(self, launches: Sequence[LaunchKey], host: str) -> tuple[Provenance, ...]:
        """Where these launches, all of `host`, were read: the user's own cache first."""
        in_fleet = [launch for launch in launches if launch in self.of_fleet]
        in_own = [launch for launch in launches if launch not in self.of_fleet]
        parts = ((self.own, in_own), (self.fleet, in_fleet))
        return tuple(
            Provenance(level=level, launches=len(part), host=host, newest=max(started_at for *_, started_at in part))
            for level, part in parts
            if level is not None and part
        )


def levels(cache: Cache, identity: Identity) -> Levels:
    """The caches that are read for a model.

    Raises:
        CacheError: the cache cannot be read.
    """
    own, *below = cache.levels
    if not below:
        return Levels(own=own, fleet=None)
    [fleet] = below
    return Levels(own=own, fleet=fleet, of_fleet=_keys(fleet, identity) - _keys(own, identity))


def key_of(candidate: str, launch: Any) -> LaunchKey:
    """Of anything that has a calibration, a round and a start.

    Args:
        candidate: its label.
    """
    return candidate, launch.calibration_id, launch.round, launch.started_at


def _keys(level: Level, identity: Identity) -> frozenset[LaunchKey]:
    key = {"architecture": identity.architecture, "quant": identity.quant, "device": identity.device}
    static = level.reader.find(**key, cut=None)
    served = level.reader.find_served(**key, fingerprint=identity.fingerprint)
    return frozenset(key_of(launch.candidate.label, launch) for launch in (*static, *served))
