"""What is published names no folder of the machine that measured: public names of models, messages without places."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from calibration.conversion.store import ArtifactStore
from calibration.measurement import Failure, Outcome
from selector.host.spec import HostSpec


def public_names(models: Iterable[str]) -> dict[str, str]:
    """The published name of each model: without the folders of this machine, and no two models share a name.

    `/data/llama-q4_0.gguf` becomes `llama-q4_0.gguf`, a snapshot in the hub's cache its hub id; shapes and hub ids
    stay as they are.
    """
    names: dict[str, str] = {}
    for model in sorted(set(models)):
        name = short_name(model)
        parts = Path(model).parts
        # Two folders of the same name are told apart by the folders that hold them.
        for depth in range(2, len(parts)):
            if name not in names.values():
                break
            name = "/".join(part.strip("/") for part in parts[-depth:])
        names[model] = name
    return names


def short_name(model: str) -> str:
    """The public name of a model by itself; see public_names."""
    path = Path(model)
    hub = next((part for part in path.parts if part.startswith("models--")), "")
    if hub:
        return hub.removeprefix("models--").replace("--", "/")
    local = model.startswith(("/", ".", "~")) or len(path.parts) > 2 or path.suffix == ".gguf"
    return path.name or model if local else model


def places_of(host: HostSpec, models: Iterable[str]) -> dict[str, str]:
    """Folders of this machine that messages and logs may name, the longest first, and what is written instead."""
    places = {str(Path(m).expanduser().absolute().parent): "..." for m in models if short_name(m) != m}
    places |= {str(i.python.parent.parent): "PREFIX" for i in host.installations.values()}
    places |= {str(ArtifactStore().root): "ARTIFACTS", tempfile.gettempdir(): "TMP", str(Path.home()): "~"}
    return dict(sorted((pair for pair in places.items() if len(pair[0]) > 1), key=lambda pair: -len(pair[0])))


def without_places(outcome: Outcome, places: Mapping[str, str]) -> dict[str, str]:
    """Message and end of the log of a failure, with each folder replaced; nothing for a measurement."""
    if not isinstance(outcome, Failure):
        return {}
    texts = {"message": outcome.message, "log_tail": outcome.log_tail}
    for folder, name in places.items():
        texts = {key: text.replace(folder, name) for key, text in texts.items()}
    return texts
