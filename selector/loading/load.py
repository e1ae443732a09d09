"""The engine of a selection: in this process where its backend runs in this interpreter, else in a worker."""

import sys
from dataclasses import replace
from pathlib import Path

from calibration.backend import Job
from calibration.errors import AutobackendError, BackendError
from calibration.registry import find
from selector.loading.choice import Choice, calibrate_it
from selector.loading.converted import convert_here, converted
from selector.loading.elsewhere import EngineElsewhere
from selector.loading.here import EngineHere
from selector.loading.loaded import Loaded, LoadedEngine
from selector.loading.weights import weights_made_here
from selector.model.spec import ModelSpec


def load(choice: Choice, *, max_context_tokens: int | None, max_batch: int | None) -> LoadedEngine:
    """See Selection.load."""
    choice.host.require_here("loading an engine")
    workload = choice.demand.largest
    sequences = max_batch or workload.batch
    loaded = Loaded(
        label=choice.candidate.label,
        model=choice.model,
        max_context_tokens=max_context_tokens or workload.context_tokens,
        vocab_size=choice.spec.vocab_size,
    )
    if choice.host.installations[choice.candidate.backend].python != Path(sys.executable):
        return EngineElsewhere(choice, max_batch=sequences, loaded=loaded)
    return _here(choice, sequences, loaded)


def _here(choice: Choice, max_batch: int, loaded: Loaded) -> LoadedEngine:
    backend = find(choice.candidate.backend)
    variant = backend.variant(choice.candidate.variant)
    host = choice.host
    spec = ModelSpec.read(choice.model)  # anew: the identity of its weights is of now
    job = Job(
        model_dir=weights_made_here(spec, choice.demand),
        variant=variant,
        artifact_dir=None,
        dtype=spec.dtype,
        vocab_size=spec.vocab_size,
        device=host.device.kind,
        threads=choice.threads,
        max_context_tokens=loaded.max_context_tokens,
        max_batch=max_batch,
        trust_remote_code=choice.demand.trust_remote_code,
        tensor_parallel=choice.demand.tensor_parallel,
    )
    try:
        if variant.prepares:
            artifact = converted(choice, backend) or convert_here(choice, backend, spec, job)
            job = replace(job, artifact_dir=artifact.path)
        return EngineHere(backend.load(job), backend, job, loaded)
    except AutobackendError:
        raise
    except Exception as error:  # whatever an engine raises
        raise BackendError(
            f"{choice.candidate.label} cannot load {choice.model}: {type(error).__name__}: {error}",
            f"see its log: {calibrate_it(choice)} --again",
        ) from error
