"""What the shared cache has of the hosts of a fleet: how long each candidate of a model took on each of them."""

from collections.abc import Iterable, Mapping
from statistics import median

from calibration.cache.cache import Cache
from calibration.cost import fit, points
from calibration.measurement import Measurement
from calibration.rung import Rung
from calibration.workload import Workload
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
    launches: dict[str, dict[str, list[Measurement]]] = {}
    for outcome in cache.find(
        architecture=spec.architecture, quant=spec.quant.label, device=device, fingerprint=spec.fingerprint, cut=None
    ):
        if isinstance(outcome, Measurement) and outcome.identity.host in wanted:
            name = _name(outcome)
            launches.setdefault(outcome.identity.host, {}).setdefault(name, []).append(outcome)
    return {
        host: {name: seconds for name, of_name in named.items() if (seconds := _seconds(of_name, workload)) is not None}
        for host, named in launches.items()
    }


def _name(launch: Measurement) -> str:
    label, cut = launch.candidate.label, launch.identity.cut
    return f"{label} on {Rung.parse(cut).layers} layers" if cut else label


def _seconds(launches: list[Measurement], workload: Workload) -> float | None:
    newest = max(launches, key=lambda launch: launch.started_at)
    alike = [launch for launch in launches if launch.environment == newest.environment]
    times = []
    for launch in alike:
        try:
            times.append(fit(points(launch)).e2e_s(workload))
        except ValueError:
            continue  # no cell with a time: an import may hold such a launch
    return median(times) if times else None
