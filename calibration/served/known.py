"""What earlier runs left of the candidates as servers: a calibration goes on from there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from calibration.cache.cache import Cache
from calibration.load.load import Load
from calibration.measurement import Identity, Served, Unserved
from calibration.race.known import todays
from calibration.supervision.launch_spec import LaunchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownServed:
    """Launches that still hold, of one calibration, the oldest first."""

    calibration_id: str = ""
    """Empty: there is none."""
    launches: Sequence[Served | Unserved] = ()


def known_served(
    candidates: Sequence[LaunchSpec], identity: Identity, loads: Iterable[Load], slots: int, cache: Cache
) -> KnownServed:
    """What holds of the newest calibration of this config in which such a load was measured with so many slots.

    A launch holds when its environment and policy are today's. A failure holds as long as it is a candidate's newest
    launch.

    Raises:
        CacheError: the cache cannot be read.
    """
    wanted, is_todays = set(loads), todays(candidates)
    rows = cache.find_served(
        architecture=identity.architecture,
        quant=identity.quant,
        device=identity.device,
        fingerprint=identity.fingerprint,
    )
    current = [o for o in rows if isinstance(o, Served | Unserved) and o.identity == identity and is_todays(o)]
    measured = [o for o in current if isinstance(o, Served) and _is_of(o, wanted, slots)]
    if not measured:
        return KnownServed()
    newest = measured[-1].calibration_id
    return KnownServed(calibration_id=newest, launches=[o for o in current if o.calibration_id == newest])


def levels_of(launches: Iterable[Served | Unserved], label: str, threads: int) -> set[Load]:
    """The loads that a candidate has taken with so many threads."""
    return {
        point.load
        for launch in launches
        if isinstance(launch, Served) and (launch.candidate.label, launch.threads) == (label, threads)
        for point in launch.points
    }


def _is_of(launch: Served, wanted: set[Load], slots: int) -> bool:
    return launch.slots == slots and any(point.load in wanted for point in launch.points)
