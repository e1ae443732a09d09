"""Sources: where a model is described: a folder, the hub, a .gguf file or a shape of the library."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from calibration.errors import ModelError
from selector.model.files.gguf import read_gguf, split_sizes
from selector.model.files.hub import is_hub_id, read_hub
from selector.model.files.shape_library import PREFIX, shape_folder
from selector.model.files.weights import BESIDE, Weights, find_weights, read_object
from selector.model.parts import declares_quant

_MEND: Final = "give a folder with config.json, a hub id (owner/name), a .gguf file, or shape:NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files that describe a model, read but not understood yet."""

    folder: Path
    where: str
    """How messages name the config."""
    config: Mapping[str, Any]
    raw: bytes
    """The file that the config was read from; empty for a .gguf file, which is too large."""
    beside: tuple[str, Mapping[str, Any]] | None
    """Name and content of the file that declares the quant format instead of config.json."""
    weights: Weights
    commit: str = ""
    """Of a snapshot of the hub; else empty."""


def find_source(model: str | Path) -> Source:
    """What describes `model`; a Path is a folder or a .gguf file and nothing else.

    Raises:
        ModelError: there is no such model, or its files cannot be read.
    """
    on_disk, name = isinstance(model, Path), str(model)
    if name.startswith(PREFIX) and not on_disk:
        return _folder(shape_folder(name.removeprefix(PREFIX)))
    if not name or "\0" in name:
        raise ModelError(f"{name!r} is not a model", _MEND)
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, no such ~user, a lone surrogate
        raise ModelError(f"{name[:80]!r} cannot be read: {error}", _MEND) from None
    if is_folder:
        return _folder(path)
    if is_file and path.suffix == ".gguf":
        return _gguf(path)
    if is_file:
        raise ModelError(f"{name} is a file", _MEND)
    if path.suffix == ".gguf":
        raise ModelError(f"there is no file {name!r}", _MEND)
    if on_disk or not is_hub_id(name):
        raise ModelError(f"there is no folder {name!r}", _MEND)
    snapshot = read_hub(name)
    return replace(_folder(snapshot.folder, listed=snapshot.sizes), commit=snapshot.folder.name)


def read_config(place: Path) -> tuple[Mapping[str, Any], str, tuple[str, Mapping[str, Any]] | None]:
    """The config of a folder or of a .gguf file: its content, how messages name it, and Source.beside.

    Raises:
        ModelError: it cannot be read.
    """
    if place.suffix == ".gguf" and place.is_file():
        return read_gguf(place), str(place), None
    config, _ = read_object(place / "config.json")
    return config, str(place / "config.json"), _beside(place, os.listdir(place), config)  # noqa: PTH208 - as in _folder


def _folder(folder: Path, listed: Mapping[str, int] | None = None) -> Source:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - half the time of Path.iterdir, and names are all that is needed
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror or error}", _MEND) from None
    if "config.json" not in names:
        raise ModelError(f"{folder} has no config.json", _MEND)
    config, raw = read_object(folder / "config.json")
    return Source(
        folder=folder,
        where=str(folder / "config.json"),
        config=config,
        raw=raw,
        beside=_beside(folder, names, config),
        weights=find_weights(folder, names, listed=listed),
    )


def _beside(folder: Path, names: list[str], config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The file that declares the quant format instead of config.json; ModelOpt's says more even where both do."""
    for name in BESIDE:
        if name in names and (name == BESIDE[0] or not declares_quant(config)):
            return str(folder / name), read_object(folder / name)[0]
    return None


def _gguf(path: Path) -> Source:
    sizes = split_sizes(path)
    identity = repr((sorted(sizes.items()), path.stat().st_mtime_ns))
    weights = Weights(total_bytes=sum(sizes.values()), identity=identity)
    config = read_gguf(path)
    return Source(folder=path.parent, where=str(path), config=config, raw=b"", beside=None, weights=weights)
