"""The probe of a machine: what the cache knows of it."""

from calibration.cache.cache import Cache
from calibration.probing.probe import Probe, Reached

__all__ = ["Probe", "Reached", "probe_of"]


def probe_of(host: str, cache: Cache) -> Probe | None:
    """The probe of a host that counts: the newest that nothing disturbed, else the newest; None where there is none.

    Args:
        host: its identifier.

    Raises:
        CacheError: the cache cannot be read.
    """
    return max(cache.probes(host), key=lambda probe: (not probe.disturbed, probe.taken_at), default=None)
