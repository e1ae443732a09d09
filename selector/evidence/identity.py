"""What identifies a launch: the model and the host by which it is looked up, and the versions that it ran with."""

from calibration.backend import Backend, Variant
from calibration.environments.distributions import normalise, requirement_name
from calibration.environments.packages import beside
from calibration.environments.versions import comparable_versions
from calibration.measurement import Identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec


def identity(spec: ModelSpec, host: HostSpec, *, device_count: int = 1) -> Identity:
    """What launches of `spec` on `device_count` devices of `host` are stored under."""
    return Identity(
        architecture=spec.architecture,
        quant=spec.quant.label,
        device=host.device.name,
        fingerprint=spec.fingerprint,
        dtype=spec.dtype,
        device_count=device_count,
        host=host.identifier,
        config=spec.config_hash,
    )


def environment_of(backend: Backend, host: HostSpec) -> dict[str, str]:
    """The versions that a launch of `backend` on `host` would run with today; a launch with others is stale."""
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
    """`onnxruntime-genai 0.18.0, onnx 1.20.0`: the packages that convert a model for the variant."""
    installation = host.installations[backend.name]
    facts = backend.facts.on(host.device.kind)
    others = sorted({requirement_name(r) for r in (*facts.requires, *facts.prepare_requires, *variant.packages)})
    names = dict.fromkeys([normalise(facts.package), *others])
    versions = {name: installation.versions[name] for name in names if name in installation.versions}
    for name in map(normalise, facts.kept_apart):
        versions[name] = beside(installation.python, name) or "absent"
    if facts.prepare_revision > 1:
        versions["conversion"] = str(facts.prepare_revision)
    return ", ".join(f"{name} {version}" for name, version in versions.items())
