"""The layers of what is known of times: launches of this host, launches that were imported, and what ships.

A launch is never counted twice: where the cache has launches of a calibration that ships, the shipped rows that they
are in give way.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from packaging.version import InvalidVersion, Version

from calibration.cache.cache import Cache
from calibration.environments.distributions import normalise
from calibration.errors import ModelError
from calibration.measurement import Measurement
from calibration.registry import all_backends
from calibration.rung import Rung
from calibration.workload import Workload
from selector.host.cpu import features_of
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.predict.known.shipped import shipped
from selector.predict.known.timing import CellTimes, Host, Timing, cell_times
from selector.predict.known.traits import family
from selector.predict.known.work import Work

MOST: Final = 1500
"""Timings that are used, the newest: fitting takes time by their third power, two seconds at so many."""

ROWS: Final = 2000
"""Launches of the cache that are read, the newest: 60 us each, and a team's cache may hold a million."""

_CPU: Final = re.compile(r"(?:.*\((?P<cpu>[^()]*)\)|(?P<arm>[^()]+)), (?P<cores>\d+) cores?")
"""HostSpec's name of a CPU: `AMD EPYC (zen3 + avx_vnni), 2 cores`; an ARM processor has no brackets."""


def host_of(host: HostSpec) -> Host:
    """What the times of candidates on a host depend on."""
    return Host(
        identifier=host.identifier,
        kind=host.device.kind,
        device=host.device.name,
        cpu_name=host.cpu_name,
        cpu_features=host.cpu_features,
        cores=host.cores,
    )


def host_named(identifier: str, device: str) -> Host:
    """A host of which only its device's name is kept; a CPU's tells its microarchitecture and what is beyond it."""
    name = _CPU.fullmatch(device)
    if name is None:
        return Host(identifier=identifier, kind="other", device=device, cpu_name="", cpu_features=frozenset(), cores=1)
    cpu, _, beyond = (name["cpu"] or name["arm"].split()[-1]).partition(" + ")
    return Host(
        identifier=identifier,
        kind="cpu",
        device=device,
        cpu_name=cpu,
        cpu_features=features_of(cpu) | frozenset(beyond.split()),
        cores=int(name["cores"]),
    )


def timings(host: Host, work: Work, cache: Cache) -> tuple[Timing, ...]:
    """What is known that may tell of `work` on `host`, the nearest layer first.

    Raises:
        CacheError: the cache cannot be read.
    """
    own = _of_cache(cache, host, work)
    counted = {(t.host.identifier, calibration) for t in own for calibration in t.calibrations}
    others = [t for t in shipped() if not counted.intersection((t.host.identifier, c) for c in t.calibrations)]
    alike = [t for t in (*own, *others) if family(t.host) == family(host)]
    alike.sort(key=lambda t: (t.host.identifier != host.identifier, -t.newest))
    return _aged(alike[:MOST])


def _of_cache(cache: Cache, host: Host, work: Work) -> list[Timing]:
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for outcome in cache.newest(ROWS):
        if isinstance(outcome, Measurement) and outcome.identity.quant == "none" and outcome.identity.device_count == 1:
            identity = outcome.identity
            versions = tuple(sorted(outcome.environment.items()))
            shape = identity.host, identity.device, identity.fingerprint, identity.dtype, identity.cut
            key = *shape, outcome.candidate, versions
            groups.setdefault(key, []).append(outcome)
    works = {(t.work.fingerprint, t.work.dtype): t.work for t in shipped()}
    works[work.fingerprint, work.dtype] = work
    hosts = {t.host.identifier: t.host for t in shipped()}
    hosts[host.identifier] = host
    found = []
    for launches in groups.values():
        last = launches[-1]
        identity = last.identity
        of = works.get((identity.fingerprint, identity.dtype)) or _work(last)
        cells = cell_times(launches)
        if of is None or not cells:
            continue
        works[identity.fingerprint, identity.dtype] = of
        where = hosts.setdefault(identity.host, host_named(identity.host, identity.device))
        found.append(_timing(where, of.cut(Rung.parse(identity.cut).layers) if identity.cut else of, launches, cells))
    return found


def _timing(host: Host, work: Work, launches: list[Measurement], cells: Mapping[Workload, CellTimes]) -> Timing:
    last = launches[-1]
    return Timing(
        host=host,
        model=last.model,
        work=work,
        label=last.candidate.label,
        cells=cells,
        environment=last.environment,
        output=str(last.agreement.verdict),
        kl=last.agreement.kl,
        memory_bytes=max(launch.gpu_memory_bytes or launch.peak_memory_bytes for launch in launches),
        newest=max(launch.started_at for launch in launches),
        calibrations=frozenset(launch.calibration_id[:8] for launch in launches),
    )


def _work(measurement: Measurement) -> Work | None:
    """Of a model that neither ships nor was asked about: its config is read where it still is."""
    try:
        spec = ModelSpec.read(measurement.model)
    except ModelError:
        return None
    return Work.of(spec) if spec.fingerprint == measurement.identity.fingerprint else None


def _aged(timings: list[Timing]) -> tuple[Timing, ...]:
    """The same, those marked that an older version of the engine left."""
    newest: dict[str, Version] = {}
    versions = [(t.label.partition(":")[0], _version(t)) for t in timings]
    for backend, version in versions:
        newest[backend] = max(version, newest.get(backend, version))
    return tuple(
        replace(t, outdated=True) if version < newest[backend] else t
        for t, (backend, version) in zip(timings, versions, strict=True)
    )


def _version(timing: Timing) -> Version:
    """Of the engine; 0 where the launches do not say or nobody can order it."""
    backend = all_backends().get(timing.label.partition(":")[0])
    package = backend.facts.on(timing.host.kind).package if backend else ""
    try:
        return Version(timing.environment.get(normalise(package), "0"))
    except InvalidVersion:
        return Version("0")
