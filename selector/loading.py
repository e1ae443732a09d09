"""From a selection to its engine: configuration, serving command, or the engine itself in this process."""

import logging
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from calibration.backend import Backend, Deployment, Engine, Job
from calibration.checkpoints.random_weights import (
    SEED,
    checkpoint_key,
    random_weights_identity,
    write_random_checkpoint,
)
from calibration.conversion.store import Artifact, ArtifactStore, converted_key
from calibration.errors import ArtifactError, AutobackendError, BackendError, ModelError
from calibration.measurement import Candidate
from calibration.registry import find
from selector.demand import Demand
from selector.host.spec import HostSpec
from selector.identity import converter_of
from selector.model.spec import ModelSpec

_LOG = logging.getLogger("autobackend")


class Choice(Protocol):
    """What loading asks of a Selection."""

    @property
    def model(self) -> str: ...
    @property
    def spec(self) -> ModelSpec: ...
    @property
    def candidate(self) -> Candidate: ...
    @property
    def host(self) -> HostSpec: ...
    @property
    def demand(self) -> Demand: ...


def engine_config(choice: Choice) -> Any:
    """The engine's own configuration for serving what was asked for."""
    backend = find(choice.candidate.backend)
    folder = _weights_folder(choice.spec) or choice.spec.folder
    return backend.engine_config(backend.variant(choice.candidate.variant), _deployment(choice, str(folder), None))


def command(choice: Choice) -> str:
    """The shell command that serves the model: that of the engine's own server, else `autobackend serve`.

    The engine is given a shape's random checkpoint, or what was converted, if it is there.
    """
    backend, spec = find(choice.candidate.backend), choice.spec
    variant = backend.variant(choice.candidate.variant)
    folder = _weights_folder(spec)
    place = str(folder) if folder and spec.name.startswith("shape:") else spec.name
    artifact = _converted(choice, backend) if variant.prepares else None
    own = backend.command(variant, _deployment(choice, place, artifact))
    return own or replace(choice.demand, backends=(choice.candidate.label,)).command("serve", spec.name)


def _deployment(choice: Choice, place: str, artifact: Artifact | None) -> Deployment:
    return Deployment(
        model=choice.spec,
        place=place,
        artifact_dir=str(artifact.path) if artifact else None,
        device=choice.host.device,
        demand=choice.demand,
    )


def load(choice: Choice, *, max_context_tokens: int | None, max_batch: int | None) -> Engine:
    """See Selection.load."""
    backend = find(choice.candidate.backend)
    variant = backend.variant(choice.candidate.variant)
    host = choice.host
    python = host.installations[backend.name].python
    if python != Path(sys.executable):
        raise BackendError(
            f"{backend.name} runs in {python}, not in this interpreter ({sys.executable})",
            f"run your program with {python}, or start a server: {command(choice)}",
        )
    spec = ModelSpec.read(choice.model)  # anew: the identity of its weights is of now
    job = Job(
        model_dir=_weights(spec, choice.demand),
        variant=variant,
        artifact_dir=None,
        dtype=spec.dtype,
        vocab_size=spec.vocab_size,
        device=host.device.kind,
        threads=host.cores,
        max_context_tokens=max_context_tokens or choice.demand.workload.context_tokens,
        max_batch=max_batch or choice.demand.workload.batch,
        trust_remote_code=choice.demand.trust_remote_code,
        tensor_parallel=choice.demand.tensor_parallel,
    )
    try:
        if variant.prepares:
            artifact = _converted(choice, backend) or _convert(choice, backend, spec, job)
            job = replace(job, artifact_dir=artifact.path)
        return backend.load(job)
    except AutobackendError:
        raise
    except Exception as error:  # whatever an engine raises
        raise BackendError(
            f"{choice.candidate.label} cannot load {choice.model}: {type(error).__name__}: {error}",
            f"see its log: {_calibrate(choice.model, choice.demand, choice.candidate.label)} --again",
        ) from error


def downloaded(spec: ModelSpec, demand: Demand, *, without: Collection[str] = ()) -> Path:
    """The folder with the weights of a hub id; huggingface_hub downloads what is missing.

    Args:
        demand: what the model was wanted for; the mend asks for it.
        without: files, or patterns of their names, that are not needed.

    Raises:
        ModelError: the model has no weights, or they cannot be downloaded.
    """
    shape = f"{demand.command('calibrate', spec.name)} --random-weights"
    if Path(spec.name).exists() or not spec.has_weights:
        raise ModelError(f"{spec.name} has no weights", f"time its shape: {shape}")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(spec.name, ignore_patterns=list(without)))
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise ModelError(
            f"the weights of {spec.name} cannot be downloaded: {error}",
            f"time its shape instead: {shape}",
        ) from error


def _calibrate(model: str, demand: Demand, label: str) -> str:
    return replace(demand, backends=(label,)).command("calibrate", model)


def _weights(spec: ModelSpec, demand: Demand) -> Path:
    """The folder with the weights; a shape has random weights, which are made if they are not there."""
    if folder := _weights_folder(spec):
        return folder
    if not spec.name.startswith("shape:"):
        return downloaded(spec, demand)
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
    """The folder or file with the weights; None if there are none yet."""
    if spec.name.startswith("shape:"):
        artifact = ArtifactStore().get(checkpoint_key(spec.folder, spec.name))
        return artifact.path if artifact else None
    there = any(True for pattern in ("*.safetensors", "*.bin", "*.gguf") for _ in spec.folder.glob(pattern))
    return spec.place if there else None


def _convert(choice: Choice, backend: Backend, spec: ModelSpec, job: Job) -> Artifact:
    """Convert in this process, under the key that a calibration's conversion has."""
    key = converted_key(
        weights=_weights_identity(spec),
        candidate=choice.candidate,
        converter=_converter(choice, backend),
        model=spec.name,
        prepared_as=job.variant.prepared_as,
    )
    return ArtifactStore().make(key, lambda destination: backend.prepare(job, destination, _LOG.info))


def _converted(choice: Choice, backend: Backend) -> Artifact | None:
    """What a calibration or an earlier load converted, with the version of the converter that is installed now."""
    wanted = converted_key(
        weights=_weights_identity(choice.spec),
        candidate=choice.candidate,
        converter=_converter(choice, backend),
        model="",
        prepared_as=backend.variant(choice.candidate.variant).prepared_as,
    )
    del wanted["model"]  # another name for the same weights will do
    converted = [artifact for artifact in ArtifactStore().list() if wanted.items() <= artifact.key.items()]
    return max(converted, key=lambda artifact: artifact.created_at, default=None)


def _converter(choice: Choice, backend: Backend) -> str:
    return converter_of(backend, backend.variant(choice.candidate.variant), choice.host)


def _weights_identity(spec: ModelSpec) -> str:
    if not spec.name.startswith("shape:"):
        return spec.weights_identity
    return random_weights_identity(spec.folder)
