"""From a selection to its engine: configuration, serving command, or the engine itself in this process."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.artifact import Artifact, ArtifactStore, converted_key
from calibration.backend import Backend, Engine, Job
from calibration.checkpoint import SEED, checkpoint_key, random_weights_identity, write_random_checkpoint
from calibration.errors import ArtifactError, AutobackendError, BackendError, ModelError
from calibration.registry import find
from selector.identity import converter_of
from selector.model import ModelSpec

if TYPE_CHECKING:
    from selector.answer import Selection

_LOG = logging.getLogger("autobackend")


def engine_config(selection: "Selection") -> Any:
    """The engine's own configuration for serving the selection's workload."""
    backend = find(selection.backend)
    folder = _weights_folder(selection.spec) or selection.spec.folder
    return backend.engine_config(backend.variant(selection.variant), str(folder), selection.workload)


def command(selection: "Selection") -> str:
    """The shell command that serves the model: a shape's random checkpoint, or what was converted, if it is there."""
    backend, spec = find(selection.backend), selection.spec
    variant = backend.variant(selection.variant)
    folder = _weights_folder(spec)
    model = str(folder) if folder and spec.name.startswith("shape:") else spec.name
    artifact = _converted(selection, backend) if variant.prepares else None
    return backend.command(variant, model, str(artifact.path) if artifact else None)


def load(selection: "Selection", *, max_context_tokens: int | None, max_batch: int | None) -> Engine:
    """See Selection.load."""
    backend = find(selection.backend)
    variant = backend.variant(selection.variant)
    host = selection.host
    python = host.installations[backend.name].python
    if python != Path(sys.executable):
        raise BackendError(
            f"{backend.name} runs in {python}, not in this interpreter ({sys.executable})",
            f"run your program with {python}, or start a server: {command(selection)}",
        )
    spec = ModelSpec.read(selection.model)  # anew: the identity of its weights is of now
    job = Job(
        model_dir=_weights(spec),
        variant=variant,
        artifact_dir=None,
        dtype=spec.dtype,
        vocab_size=spec.vocab_size,
        device=host.device.kind,
        threads=host.cores,
        max_context_tokens=max_context_tokens or selection.workload.context_tokens,
        max_batch=max_batch or selection.workload.batch,
        trust_remote_code=selection.trust_remote_code,
        tensor_parallel=selection.tensor_parallel,
    )
    try:
        if variant.prepares:
            artifact = _converted(selection, backend) or _convert(selection, backend, spec, job)
            job = _with(job, artifact.path)
        return backend.load(job)
    except AutobackendError:
        raise
    except Exception as error:  # whatever an engine raises
        raise BackendError(
            f"{selection.candidate.label} cannot load {selection.model}: {type(error).__name__}: {error}",
            f"see its log: autobackend calibrate {selection.model} --backends {selection.candidate.label} --again",
        ) from error


def downloaded(spec: ModelSpec) -> Path:
    """The folder of a hub id's own weights; huggingface_hub downloads what is missing.

    Raises:
        ModelError: there are none, or they cannot be had.
    """
    if Path(spec.name).exists() or not spec.has_weights:
        raise ModelError(
            f"{spec.name} has no weights", f"time its shape: autobackend calibrate {spec.name} --random-weights"
        )
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(spec.name))
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise ModelError(
            f"the weights of {spec.name} cannot be downloaded: {error}",
            f"time its shape instead: autobackend calibrate {spec.name} --random-weights",
        ) from error


def _with(job: Job, artifact: Path) -> Job:
    from dataclasses import replace

    return replace(job, artifact_dir=artifact)


def _weights(spec: ModelSpec) -> Path:
    """The folder with the weights; of a shape random ones, made where there are none."""
    if folder := _weights_folder(spec):
        return folder
    if not spec.name.startswith("shape:"):
        return downloaded(spec)
    return ArtifactStore().make(checkpoint_key(spec.folder, spec.name), lambda to: _write_checkpoint(spec, to)).path


def _write_checkpoint(spec: ModelSpec, destination: Path) -> None:
    try:
        write_random_checkpoint(spec.folder, destination, SEED)
    except AutobackendError:
        raise
    except Exception as error:  # whatever transformers raises for a configuration
        raise ArtifactError(
            f"no checkpoint with random weights for {spec.name}: {error}",
            "transformers must know the architecture and be installed here",
        ) from error


def _weights_folder(spec: ModelSpec) -> Path | None:
    """Where the weights are now, if they are anywhere."""
    if spec.name.startswith("shape:"):
        artifact = ArtifactStore().get(checkpoint_key(spec.folder, spec.name))
        return artifact.path if artifact else None
    held = any(True for pattern in ("*.safetensors", "*.bin", "*.gguf") for _ in spec.folder.glob(pattern))
    return spec.place if held else None


def _convert(selection: "Selection", backend: Backend, spec: ModelSpec, job: Job) -> Artifact:
    """Convert in this process, under the key that a calibration's conversion has."""
    key = converted_key(
        weights=_weights_identity(spec),
        candidate=selection.candidate,
        converter=_converter(selection, backend),
        model=spec.name,
        prepared_as=job.variant.prepared_as,
    )
    return ArtifactStore().make(key, lambda destination: backend.prepare(job, destination, _LOG.info))


def _converted(selection: "Selection", backend: Backend) -> Artifact | None:
    """What a calibration or an earlier load converted, with the version of the converter that is installed now."""
    wanted = converted_key(
        weights=_weights_identity(selection.spec),
        candidate=selection.candidate,
        converter=_converter(selection, backend),
        model="",
        prepared_as=backend.variant(selection.candidate.variant).prepared_as,
    )
    del wanted["model"]  # another name of the same weights
    found = [a for a in ArtifactStore().list() if wanted.items() <= a.key.items()]
    return max(found, key=lambda a: a.created_at, default=None)


def _converter(selection: "Selection", backend: Backend) -> str:
    return converter_of(backend, backend.variant(selection.variant), selection.host)


def _weights_identity(spec: ModelSpec) -> str:
    if not spec.name.startswith("shape:"):
        return spec.weights_identity
    return random_weights_identity(spec.folder)
