"""What a selection's engine, or its own server, is told to serve the model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.backend import Deployment
from calibration.conversion.artifact import Artifact
from calibration.errors import ArtifactError, ModelError, UsageError
from calibration.registry import find
from selector.loading.choice import Choice, calibrate_it
from selector.loading.converted import converted
from selector.loading.weights import weights_there


def engine_config(choice: Choice) -> Any:
    """See Selection.engine_config."""
    choice.host.require_here("a configuration")
    backend = find(choice.candidate.backend)
    folder = weights_there(choice.spec) or choice.spec.folder
    return backend.engine_config(backend.variant(choice.candidate.variant), _deployment(choice, str(folder), None))


def command(choice: Choice) -> str:
    """The shell command that serves the model: that of the engine's own server, else `autobackend serve`.

    The engine is given a shape's random checkpoint, or what was converted, if it is there.
    """
    choice.host.require_here("a command")
    backend, spec = find(choice.candidate.backend), choice.spec
    variant = backend.variant(choice.candidate.variant)
    folder = weights_there(spec)
    place = str(folder) if folder and spec.name.startswith("shape:") else spec.name
    artifact = converted(choice, backend) if variant.prepares else None
    own = backend.command(variant, _deployment(choice, place, artifact))
    return own or replace(choice.demand, backends=(choice.candidate.label,)).command("serve", spec.name)


def engine_args(choice: Choice) -> dict[str, Any]:
    """See Selection.engine_args."""
    _require(choice, "vllm", "engine_args()")
    return _settings(choice)


def llama_server_flags(choice: Choice) -> list[str]:
    """See Selection.llama_server_flags."""
    _require(choice, "llamacpp", "llama_server_flags()")
    return [word for name, value in _settings(choice).items() for word in (f"--{name}", str(value))]


def _require(choice: Choice, backend: str, what: str) -> None:
    if choice.candidate.backend != backend:
        raise UsageError(
            f"{what} is for {backend}; {choice.candidate.label} was chosen",
            f'restrict the choice: select("{choice.model}", backend="{backend}")',
        )


def _settings(choice: Choice) -> dict[str, Any]:
    """Backend.settings for files that are there.

    Raises:
        ModelError: a shape has no weights yet.
        ArtifactError: the model is not converted yet.
    """
    choice.host.require_here("what an engine is told")
    backend = find(choice.candidate.backend)
    variant = backend.variant(choice.candidate.variant)
    artifact = converted(choice, backend) if variant.prepares else None
    if variant.prepares and artifact is None:
        raise ArtifactError(
            f"{choice.model} is not converted for {choice.candidate.label} yet",
            f"a calibration converts it: {calibrate_it(choice)}",
        )
    place = choice.model if artifact else _place(choice)  # what was converted needs the original no more
    return dict(backend.settings(variant, _deployment(choice, place, artifact)))


def _place(choice: Choice) -> str:
    """A hub id as it is; else the whole path of a folder or file, since what is told to a server outlives a shell."""
    spec = choice.spec
    if spec.name.startswith("shape:"):
        checkpoint = weights_there(spec)
        if checkpoint is None:
            raise ModelError(
                f"{spec.name} has no weights yet", f"a calibration writes random ones: {calibrate_it(choice)}"
            )
        return str(checkpoint)
    return str(spec.place.resolve()) if Path(spec.name).expanduser().exists() else spec.name


def _deployment(choice: Choice, place: str, artifact: Artifact | None) -> Deployment:
    return Deployment(
        model=choice.spec,
        place=place,
        artifact_dir=str(artifact.path) if artifact else None,
        device=choice.host.device,
        demand=choice.demand.for_one(replace(choice.demand.largest, batch=choice.slots)),
        threads=choice.threads if choice.host.device.kind == "cpu" else 0,
    )
