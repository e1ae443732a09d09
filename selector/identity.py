"""identity(): what a measurement of a model on a host is a measurement of, the cache's key."""

from calibration.measurement import Identity
from selector.host import HostSpec
from selector.model import ModelSpec


def identity(spec: ModelSpec, host: HostSpec, *, device_count: int = 1) -> Identity:
    """The key of `spec` on the device that runs models on `host`, on `device_count` of them at once."""
    return Identity(
        architecture=spec.architecture,
        quant=spec.quant.label,
        device=host.device.name,
        fingerprint=spec.fingerprint,
        dtype=spec.dtype,
        device_count=device_count,
        host=host.identifier,
    )
