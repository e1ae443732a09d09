"""What is looked up by key: in a cache, and in the fleet's below it where one is named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from calibration.cache.fleet import Fleet
from calibration.cache.reader import Reader
from calibration.measurement import Outcome
from calibration.probing.probe import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One of the caches that lookups read, the nearest first."""

    name: Literal["own", "fleet"]
    location: str
    """A path, or a URL without its password."""
    made_at: float | None
    """Unix time at which a snapshot was made; None of a cache that grows."""
    reader: Reader


class Lookups:
    """Lookups in one cache and the fleet's below it; a launch or a probe that both have is the nearer one's.

    Args:
        own: the user's own cache.
        fleet: None: there is none.
    """

    def __init__(self, own: Level, fleet: Fleet | None) -> None:
        self._own = own
        self._fleet = fleet

    @property
    def levels(self) -> tuple[Level, ...]:
        """The caches that are read: the user's own, then the fleet's where there is one."""
        if self._fleet is None:
            return (self._own,)
        below = self._fleet
        return self._own, Level(name="fleet", location=below.location, made_at=below.made_at(), reader=below.reader)

    def find(
        self, *, architecture: str, quant: str, device: str, fingerprint: str | None = None, cut: str | None = ""
    ) -> list[Outcome]:
        """Launches by the key, the oldest first; without a fingerprint, launches of every size.

        Those under load are not among them: see find_served. Malformed rows are left out.

        Args:
            cut: Identity.cut; by default launches of the whole model. None: of the whole model and on a few layers.

        Raises:
            CacheError: the cache cannot be read.
        """
        return self._of_both(
            lambda reader: reader.find(
                architecture=architecture, quant=quant, device=device, fingerprint=fingerprint, cut=cut
            )
        )

    def find_served(self, *, architecture: str, quant: str, device: str, fingerprint: str) -> list[Outcome]:
        """Launches of whole models as servers under load, by the key, the oldest first; and those that failed at it.

        Malformed rows are left out. Raises as `find` does.
        """
        return self._of_both(
            lambda reader: reader.find_served(
                architecture=architecture, quant=quant, device=device, fingerprint=fingerprint
            )
        )

    def find_on(self, *, device: str, hosts: Sequence[str]) -> list[Outcome]:
        """Launches of all models on these hosts with this device, the oldest first; none of those under load.

        It looks at every launch of the cache. Malformed rows are left out. Raises as `find` does.
        """
        return self._of_both(lambda reader: reader.find_on(device=device, hosts=hosts))

    def newest(self, count: int) -> list[Outcome]:
        """The launches that were added last, at most `count`; oldest first.

        Those of the fleet fill what this cache leaves. It takes as long however many there are. Malformed rows are left
        out.

        Raises:
            CacheError: the cache cannot be read.
        """
        launches = self._own.reader.newest(count)
        if self._fleet is not None and len(launches) < count:
            known = {launch.run_id for launch in launches}
            more = [launch for launch in self._fleet.reader.newest(count) if launch.run_id not in known]
            launches += more[: count - len(launches)]
        return sorted(launches, key=_age)

    def probes(self, host: str | None = None) -> list[Probe]:
        """The probes of a host, or of all hosts, the oldest first; malformed rows are left out.

        Raises:
            CacheError: the cache cannot be read.
        """
        own = self._own.reader.probes(host)
        if self._fleet is None:
            return own
        known = {probe.probe_id for probe in own}
        more = [probe for probe in self._fleet.reader.probes(host) if probe.probe_id not in known]
        return sorted([*own, *more], key=lambda probe: (probe.taken_at, probe.probe_id))

    def _of_both(self, read: Callable[[Reader], list[Outcome]]) -> list[Outcome]:
        """This cache's launches and the fleet's, the oldest first; one that both have is this cache's."""
        own = read(self._own.reader)
        if self._fleet is None:
            return own
        known = {launch.run_id for launch in own}
        return sorted([*own, *(o for o in read(self._fleet.reader) if o.run_id not in known)], key=_age)


def _age(launch: Outcome) -> tuple[float, str]:
    return launch.started_at, launch.run_id
