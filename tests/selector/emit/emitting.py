"""What the tests of emitted configurations choose: a model in a folder, converted or not, and a candidate of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from calibration.cache.cache import Cache
from calibration.conversion.artifact import converted_key
from calibration.conversion.store import ArtifactStore
from calibration.measurement import Candidate
from calibration.registry import find
from calibration.workload import Workload
from selector.answer import Selection
from selector.emit.targets import find_target
from selector.host.spec import HostSpec
from selector.loading.converted import converter
from selector.loading.weights import weights_identity
from selector.model.files.shape_library import shape_folder
from selector.selection import choose
from tests.selector.answering import HOST
from tests.selector.conftest import A100

Choose = Callable[..., Selection]
GPU_HOST = replace(HOST, devices=(A100,))
EIGHT = Workload(prompt_tokens=512, output_tokens=128, batch=8)


def model_folder(path: Path) -> Path:
    """SmolLM2-135M's config, and a file in the place of its weights."""
    path.mkdir()
    config = shape_folder("smollm2-135m") / "config.json"
    (path / "config.json").write_bytes(config.read_bytes())
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def chosen(model: Path | str, label: str, cache: Cache, *, host: HostSpec = HOST, **asked: Any) -> Selection:
    """A selection of a model whose answer is this candidate, legal here or not."""
    selection = choose(model, cache=cache, host=host, **{"workload": EIGHT, **asked})
    backend, _, variant = label.partition(":")
    return replace(selection, candidate=Candidate(backend=backend, variant=variant))


def convert(selection: Selection, gguf: bytes = b"GGUF") -> Path:
    """Put a converted model of the selection into the store, as a calibration does; its GGUF file."""
    backend = find(selection.backend)
    key = converted_key(
        weights=weights_identity(selection.spec),
        candidate=selection.candidate,
        converter=converter(selection, backend),
        model=selection.model,
    )
    made = ArtifactStore().make(key, lambda folder: (folder / "model.gguf").write_bytes(gguf))
    return made.path / "model.gguf"


def emitted(target: str, selection: Selection) -> tuple[str, tuple[str, ...]]:
    written = find_target(target).write(selection)
    return written.text, written.notes


def document(target: str, selection: Selection) -> Any:
    return yaml.safe_load(emitted(target, selection)[0])


def hub_selection(selection: Selection, name: str = "owner/Tiny-Chat") -> Selection:
    """The same for a model of the hub, which is read from a snapshot there."""
    return replace(selection, model=name, spec=replace(selection.spec, name=name))
