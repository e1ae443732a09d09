"""What the shared cache has of the hosts of a fleet: how long each candidate of a model took on each of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from calibration.cache.cache import Cache
from calibration.environments.versions import POLICY
from calibration.measurement import Measurement
from selector import context as contexts
from selector.demand.demand import Demand
from selector.evidence.identity import identity
from selector.evidence.launch_times import seconds_by_candidate
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec


def times_by_host(
    cache: Cache, spec: ModelSpec, hosts: Iterable[HostSpec], demand: Demand
) -> dict[str, Mapping[str, float]]:
    """HostSpec.identifier: candidate: seconds of the workload, by the launches with the versions that the host has now.

    A launch on a few layers stands under a name of its own, so that only what is alike is compared.

    Args:
        hosts: those that are asked for, all with the same device; who has no such launch is left out.

    Raises:
        CacheError: the cache cannot be read.
    """
    by_identifier = {host.identifier: host for host in hosts}
    if not by_identifier:
        return {}
    wanted = {
        identifier: identity(spec, host, device_count=demand.tensor_parallel)
        for identifier, host in by_identifier.items()
    }
    key = next(iter(wanted.values()))
    launches: dict[str, list[Measurement]] = {}
    for outcome in cache.find(
        architecture=key.architecture, quant=key.quant, device=key.device, fingerprint=key.fingerprint, cut=None
    ):
        host = by_identifier.get(outcome.identity.host)
        if host is None or replace(outcome.identity, cut="").shape != wanted[host.identifier].shape:
            continue
        if isinstance(outcome, Measurement) and _is_current(outcome, host):
            launches.setdefault(host.identifier, []).append(outcome)
    return {identifier: seconds_by_candidate(of_host, demand.workload) for identifier, of_host in launches.items()}


def _is_current(launch: Measurement, host: HostSpec) -> bool:
    """Whether it would run so today: what an upgrade made stale is measured again."""
    today = contexts.DEFAULT.environments(host).get(launch.candidate.backend)
    return launch.policy == POLICY and launch.environment == today
