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
from calibration.supervision.launch_spec import Subject
from selector.host.spec import HostSpec
from selector.loading import downloaded
from selector.planning.events import CalibrationEvent
from selector.planning.plan import Plan, launch_spec_of
from selector.planning.preparations import random_checkpoint

REFERENCE_OVERHEAD = 1.3
"""A float32 reference is computed where its weights, times this, fit into the memory that is free."""


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
    """transformers in float32 on the CPU where that fits into its memory, else in the model's dtype on the device."""
    spec, host = planned.spec, planned.host
    plain: Variant = all_backends()["transformers"].variant("eager")
    free = host.device.free_bytes if host.device.kind == "cpu" else host.memory_bytes
    quant = spec.quant
    dequantised = knows(quant.method, quant.bits, quant.version)
    # transformers reads a .gguf file by dequantising it.
    plain_weights = quant.method in {"none", "gguf"} or dequantised
    wide = plain_weights and spec.parameters * 4 * REFERENCE_OVERHEAD < free
    precision = "fp32" if wide else "model"
    variant = dataclasses.replace(
        plain,
        name=f"reference-{precision}",
        precision=precision,
        options={**plain.options, "dtype": "float32" if wide else "auto"},
    )
    return reference_of(
        dataclasses.replace(
            launch_spec_of(Candidate(backend="transformers", variant=plain.name), host),
            candidate=Candidate(backend="transformers", variant=variant.name),
            variant=variant,
            device="cpu" if wide else "",
        ),
        dequantised=dequantised and wide,
    )
