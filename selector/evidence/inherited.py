"""Whether what another host measured holds here: by the models that were launched on both, as by spot checks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from calibration.cache.cache import Cache
from calibration.measurement import Identity, Measurement
from calibration.workload import Workload
from selector.evidence.launch_times import seconds_by_candidate
from selector.evidence.likeness import Likeness, likenesses


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What an answer that another host gives rests on."""

    host: str
    """Identity.host of the other."""
    of: int
    """How many models were launched there."""
    likeness: Likeness
    """Of this host beside it; of so many of these models as were launched here, too."""

    @property
    def verified(self) -> bool:
        """Whether models that were launched on both took as long here as there."""
        return self.likeness.models > 0 and self.likeness.alike

    @property
    def sentence(self) -> str:
        """`transferred from host a1b2c3, verified on 8 of 200 models: they take 1.004 of the time there`."""
        likeness = self.likeness
        if not likeness.models:
            return f"transferred from host {self.host}; nothing was launched on both, so nobody verified it"
        models = f"{likeness.models} of {self.of} {'model' if self.of == 1 else 'models'}"
        beside = f"{likeness.ratio:.3f} of the time there, where up to {likeness.limit:.2f} is a tie"
        if self.verified:
            return f"transferred from host {self.host}, verified on {models}: here they take {beside}"
        turned = f"; the order of {', '.join(likeness.turned)} is another" if likeness.turned else ""
        return f"transferred from host {self.host}, which is not like this one: {models} take {beside}{turned}"

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it."""
        return {
            "host": self.host,
            "verified": self.verified,
            "models": self.likeness.models,
            "of": self.of,
            "ratio": self.likeness.ratio if self.likeness.models else None,
            "limit": self.likeness.limit if self.likeness.models else None,
            "turned": dict(self.likeness.turned),
        }


def inherited(cache: Cache, identity: Identity, other: str, *, kind: str, workload: Workload) -> Inherited:
    """How this host is beside another one with such a device.

    Args:
        identity: of a model on this host.
        other: Identity.host of the other.
        kind: Device.kind, whose noise is believed until launches show another.
        workload: whose times are compared.

    Raises:
        CacheError: the cache cannot be read.
    """
    here, there = identity.host, other
    launches = cache.find_on(device=identity.device, hosts=(here, there))
    measured = [launch for launch in launches if isinstance(launch, Measurement)]
    times = {host: _times(measured, host, workload) for host in (here, there)}
    return Inherited(host=other, of=len(times[there]), likeness=likenesses(times, kind)[here])


def _times(launches: Iterable[Measurement], host: str, workload: Workload) -> dict[str, dict[str, float]]:
    """Model, named by its shape: candidate: seconds; models of one shape are one."""
    by_model: dict[str, list[Measurement]] = {}
    for launch in launches:
        identity = launch.identity
        if identity.host == host:
            shape = (identity.architecture, identity.quant, identity.dtype, identity.fingerprint, identity.device_count)
            by_model.setdefault(" ".join(map(str, shape)), []).append(launch)
    return {model: seconds_by_candidate(of_model, workload) for model, of_model in by_model.items()}
