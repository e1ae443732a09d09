"""The weights that an engine loads: a folder or a .gguf file; downloaded, or random ones of a shape."""

from collections.abc import Collection
from pathlib import Path

from calibration.checkpoints.random_weights import (
    SEED,
    checkpoint_key,
    random_weights_identity,
    write_random_checkpoint,
)
from calibration.conversion.store import ArtifactStore
from calibration.errors import ArtifactError, AutobackendError, ModelError
from calibration.supervision.replies import Trouble
from calibration.supervision.workers import start_worker
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec

CHECKPOINT_LIMIT_S = 3600.0


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


def weights_there(spec: ModelSpec) -> Path | None:
    """The folder or file with the weights; None if there are none yet."""
    if spec.name.startswith("shape:"):
        artifact = ArtifactStore().get(checkpoint_key(spec.folder, spec.name))
        return artifact.path if artifact else None
    there = any(True for pattern in ("*.safetensors", "*.bin", "*.gguf") for _ in spec.folder.glob(pattern))
    return spec.place if there else None


def weights_identity(spec: ModelSpec) -> str:
    """What tells the weights from all others; those of a shape are random."""
    if not spec.name.startswith("shape:"):
        return spec.weights_identity
    return random_weights_identity(spec.folder)


def weights_made_here(spec: ModelSpec, demand: Demand) -> Path:
    """The weights; a shape's random ones are written by this process if they are not there.

    Raises:
        ModelError, ArtifactError: they cannot be had.
    """
    if found := weights_there(spec):
        return found
    if not spec.name.startswith("shape:"):
        return downloaded(spec, demand)
    return ArtifactStore().make(checkpoint_key(spec.folder, spec.name), lambda to: _write_checkpoint(spec, to)).path


def weights_made_elsewhere(spec: ModelSpec, demand: Demand, host: HostSpec, log: Path) -> Path:
    """The same, where this process need not have torch: a worker of the transformers backend writes random ones.

    Raises:
        ModelError, ArtifactError: they cannot be had.
        GivenUp: the interpreter of transformers cannot be started.
    """
    if found := weights_there(spec):
        return found
    if not spec.name.startswith("shape:"):
        return downloaded(spec, demand)

    def build(destination: Path) -> None:
        python = host.installations["transformers"].python
        with start_worker(python, log=log, memory_limit_bytes=host.memory_bytes, variables={}) as worker:
            answer = worker.ask(
                "checkpoint",
                timeout_s=CHECKPOINT_LIMIT_S,
                config_dir=str(spec.folder),
                destination=str(destination),
                seed=SEED,
            )
        if isinstance(answer, Trouble):
            raise _not_written(spec, answer.message)

    return ArtifactStore().make(checkpoint_key(spec.folder, spec.name), build).path


def _write_checkpoint(spec: ModelSpec, destination: Path) -> None:
    try:
        write_random_checkpoint(spec.folder, destination, SEED)
    except AutobackendError:
        raise
    except Exception as error:  # whatever transformers raises for a configuration
        raise _not_written(spec, str(error)) from error


def _not_written(spec: ModelSpec, why: str) -> ArtifactError:
    return ArtifactError(
        f"no checkpoint with random weights for {spec.name}: {why}",
        "transformers must know the architecture and be installed here",
    )
