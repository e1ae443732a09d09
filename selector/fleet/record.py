"""What the shared cache has of the hosts of a fleet: how long each candidate of a model took on each of them."""

from collections.abc import Iterable, Mapping

from calibration.cache.cache import Cache
from calibration.measurement import Measurement
from calibration.workload import Workload
from selector.evidence.launch_times import seconds_by_candidate
from selector.model.spec import ModelSpec


def times_by_host(
    cache: Cache, spec: ModelSpec, device: str, hosts: Iterable[str], workload: Workload
) -> dict[str, Mapping[str, float]]:
    """Host: candidate: seconds of the workload, by the launches of the newest versions on it.

    A launch on a few layers stands under a name of its own, so that only what is alike is compared.

    Args:
        device: Device.name of the group.
        hosts: HostSpec.identifier of those that are asked for.

    Raises:
        CacheError: the cache cannot be read.
    """
    wanted = set(hosts)
    launches: dict[str, list[Measurement]] = {}
    for outcome in cache.find(
        architecture=spec.architecture, quant=spec.quant.label, device=device, fingerprint=spec.fingerprint, cut=None
    ):
        if isinstance(outcome, Measurement) and outcome.identity.host in wanted:
            launches.setdefault(outcome.identity.host, []).append(outcome)
    return {host: seconds_by_candidate(of_host, workload) for host, of_host in launches.items()}
