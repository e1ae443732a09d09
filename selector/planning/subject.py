"""What is launched: the model with weights on the disk, and the reference that its candidates are held to."""

import dataclasses
from pathlib import Path

from calibration.backend import Variant
from calibration.checkpoints.dequantise import knows
from calibration.conversion.store import ArtifactStore
from calibration.events import Reporter
from calibration.launch.checker import MakeReference
from calibration.launch.reference import reference_of
from calibration.measurement import Candidate
from calibration.registry import all_backends
from calibration.supervision.launch_spec import LaunchSpec, Subject
from selector.host.spec import HostSpec
from selector.loading import downloaded
from selector.planning.events import CalibrationEvent
from selector.planning.plan import Plan, launch_spec_of
from selector.planning.preparations import random_checkpoint


def subject_of(
    planned: Plan,
    store: ArtifactStore,
    reporter: Reporter[CalibrationEvent],
    *,
    random_weights: bool = False,
) -> Subject:
    """The model with weights on the disk: its own weights, or random weights, which are made once.

    Raises:
        ModelError: its weights cannot be had.
        ArtifactError: random weights cannot be made.
    """
    spec, host = planned.spec, planned.host
    if random_weights or spec.name.startswith("shape:"):
        folder, weights = random_checkpoint(spec, store, reporter, host)
    else:
        local = Path(spec.name).exists() and spec.has_weights
        folder, weights = spec.place if local else downloaded(spec, planned.demand), spec.weights_identity
    return Subject(
        name=spec.name,
        model_dir=folder,
        weights_identity=weights,
        identity=planned.identity,
        dtype=spec.dtype,
        vocab_size=spec.vocab_size,
        device=host.device.kind,
        threads=host.cores,
        cpus=host.bound_cpus,
        memory_limit_bytes=memory_limit_bytes(host),
        trust_remote_code=planned.demand.trust_remote_code,
        tensor_parallel=planned.demand.tensor_parallel,
        max_position=spec.max_position,
        sliding_window=spec.sliding_window,
        parameters=spec.parameters,
        embeddings=spec.vocab_size * spec.hidden_size,
    )


def memory_limit_bytes(host: HostSpec) -> int:
    """What a worker's process tree may hold in memory."""
    free = host.device.free_bytes if host.device.kind == "cpu" else host.memory_bytes
    return int(free * 0.95)


def reference_for(planned: Plan) -> MakeReference:
    """transformers in float32 on the CPU, where it can read the weights so; else in the model's dtype on the device."""
    spec, host = planned.spec, planned.host
    plain: Variant = all_backends()["transformers"].variant("eager")
    launched = launch_spec_of(Candidate(backend="transformers", variant=plain.name), host)

    def reference(precision: str, dtype: str, device: str) -> LaunchSpec:
        variant = dataclasses.replace(
            plain,
            name=f"reference-{precision}",
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
