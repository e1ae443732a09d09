"""What is launched: the model with weights on the disk, and the reference that its candidates are held to."""

import dataclasses

from calibration.backend import Variant
from calibration.checkpoints.dequantise import knows
from calibration.conversion.store import ArtifactStore
from calibration.events import Reporter
from calibration.launch.checker import MakeReference
from calibration.launch.reference import failing_reference, reference_of
from calibration.measurement import Candidate
from calibration.registry import all_backends
from calibration.rung import Rung
from calibration.supervision.launch_spec import LaunchSpec, Subject
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.planning.events import CalibrationEvent
from selector.planning.plan import Plan, launch_spec_of
from selector.planning.weights import weights_of


def subject_of(
    planned: Plan,
    store: ArtifactStore,
    reporter: Reporter[CalibrationEvent],
    *,
    random_weights: bool = False,
) -> Subject:
    """The whole model with weights on the disk; see subject_at."""
    whole = Rung(layers=planned.spec.layers, of=planned.spec.layers)
    return subject_at(planned, whole, store, reporter, random_weights=random_weights)


def subject_at(
    planned: Plan,
    rung: Rung,
    store: ArtifactStore,
    reporter: Reporter[CalibrationEvent],
    *,
    random_weights: bool = False,
) -> Subject:
    """The layers of a rung with weights on the disk: the model's own, or random ones; they are written once.

    Raises:
        ModelError: the model's weights cannot be had.
        ArtifactError: random weights cannot be made, or the first layers not be cut out.
    """
    host = planned.host
    weights = weights_of(planned.spec, rung, random_weights=random_weights)
    spec = weights.spec
    return Subject(
        name=spec.name,
        model_dir=weights.write(store, reporter, host, planned.demand),
        weights_identity=weights.identity,
        identity=dataclasses.replace(planned.identity, cut=rung.cut),
        dtype=spec.dtype,
        vocab_size=spec.vocab_size,
        device=host.device.kind,
        threads=host.cores,
        cpus=host.bound_cpus,
        memory_limit_bytes=memory_limit_bytes(host),
        trust_remote_code=planned.demand.trust_remote_code,
        tensor_parallel=planned.demand.tensor_parallel,
        max_position=spec.max_position,
        experts=spec.experts,
        sliding_window=spec.sliding_window,
        parameters=spec.parameters,
        embeddings=spec.embeddings,
        expert_parameters=spec.expert_parameters,
        layers=spec.layers,
    )


def memory_limit_bytes(host: HostSpec) -> int:
    """What a worker's process tree may hold in memory."""
    free = host.device.free_bytes if host.device.kind == "cpu" else host.memory_bytes
    return int(free * 0.95)


def reference_variant(spec: ModelSpec) -> Variant:
    """The variant of transformers whose attention the reference has: eager, unless that alone is wrong."""
    transformers = all_backends()["transformers"]
    eager, sdpa = transformers.variant("eager"), transformers.variant("sdpa")
    return sdpa if transformers.fits(spec, eager) and not transformers.fits(spec, sdpa) else eager


def reference_for(planned: Plan) -> MakeReference:
    """transformers in float32 on the CPU, where it can read the weights so; else in the model's dtype on the device.

    There is none of a .gguf file whose metadata transformers does not read whole.
    """
    spec, host = planned.spec, planned.host
    transformers = all_backends()["transformers"]
    plain = reference_variant(spec)
    if spec.quant.method == "gguf" and (reasons := transformers.fits(spec, plain)):
        return failing_reference(f"transformers {'; '.join(reasons)}")
    launched = launch_spec_of(Candidate(backend="transformers", variant=plain.name), host)

    def reference(precision: str, dtype: str, device: str) -> LaunchSpec:
        variant = dataclasses.replace(
            plain,
            name=f"reference-{precision}" if plain.name == "eager" else f"reference-{precision}-{plain.name}",
            precision=precision,
            options={**plain.options, "dtype": dtype},
        )
        candidate = Candidate(backend="transformers", variant=variant.name)
        return dataclasses.replace(launched, candidate=candidate, variant=variant, device=device)

    in_its_dtype = reference("model", "auto", "")
    quant = spec.quant
    dequantised = knows(quant.method, quant.bits, quant.version)
    # transformers reads a .gguf file by dequantising it.
    if quant.method in {"none", "gguf"} or dequantised:
        return reference_of(reference("fp32", "float32", "cpu"), instead=in_its_dtype, dequantised=dequantised)
    return reference_of(in_its_dtype)
