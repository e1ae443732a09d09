"""What a launch of a model on a host is a launch of: the cache's key, and the versions that make times comparable."""

from calibration.backend import Backend, Variant
from calibration.environments.distributions import normalise, requirement_name
from calibration.environments.packages import beside
from calibration.environments.versions import comparable_versions
from calibration.measurement import Identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec


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


def environment_of(backend: Backend, host: HostSpec) -> dict[str, str]:
    """The environment that a launch of `backend` on `host` has today; a row with another one is stale."""
    installation = host.installations[backend.name]
    return comparable_versions(
        backend.facts.on(host.device.kind),
        installation.versions,
        driver=host.device.driver,
        threads=host.cores,
        python=installation.python,
        bound=len(host.bound_cpus),
    )


def converter_of(backend: Backend, variant: Variant, host: HostSpec) -> str:
    """`onnxruntime-genai 0.18.0, onnx 1.20.0`: all that converts a model for the variant."""
    installation = host.installations[backend.name]
    facts = backend.facts.on(host.device.kind)
    others = sorted({requirement_name(r) for r in (*facts.requires, *facts.prepare_requires, *variant.packages)})
    names = dict.fromkeys([normalise(facts.package), *others])
    found = {name: installation.versions[name] for name in names if name in installation.versions}
    for pinned in facts.beside:
        name = requirement_name(pinned)
        found[name] = beside(installation.python, name) or "absent"
    return ", ".join(f"{name} {version}" for name, version in found.items())
