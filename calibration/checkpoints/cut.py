"""Writes the first layers of a checkpoint as a checkpoint of their own, reading only their tensors.

`python -m calibration.checkpoints.cut SOURCE DESTINATION 6/32`
"""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from calibration.checkpoints.cut_config import OTHER_TOWERS, cut_config, without_later_layers
from calibration.checkpoints.json_file import write_json
from calibration.rung import Rung

CUT_VERSION = "1"
"""Part of an artifact's key. Raise it when the same checkpoint gives another cut than before."""

_QUANT_FILES = ("hf_quant_config.json", "quant_config.json", "quantize_config.json")
"""Files beside config.json that say how the weights are quantised, and may name layers."""

_WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|pth|gguf|h5|msgpack|onnx|ot)(\.index\.json)?|.*\.safetensors\..*")
_SECOND_COPIES = ("consolidated", "adapter_", "optimizer")
"""Weight files that are none of the model's, or are stored a second time in another layout."""

_PREDICTORS = re.compile(r"(.*\.)?(mtp|nextn)(\.|_).*")
"""Tensors of layers that guess a token ahead; cut_config says that there are none."""

_AT_ONCE = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Where a tensor lies in a safetensors file, and what its header says of it."""

    name: str
    file: Path
    at: int
    size: int
    header: Mapping[str, Any]

    @property
    def width(self) -> int:
        """Bytes of one number; larger ones come first in a file, so that each begins at a multiple of its own."""
        count = 1
        for length in self.header["shape"]:
            count *= length
        return self.size // count if count else 8


def cut_checkpoint(source: Path, destination: Path, rung: Rung) -> Path:
    """Write the first layers of a Hugging Face folder, or of a .gguf file, into the folder `destination`.

    Embeddings, the last norm and the head stay, and so do other towers. All but weights and configs is copied as it is.

    Returns:
        What an engine is told to load: `destination`, or the .gguf file in it.

    Raises:
        ValueError: the weights are not stored as safetensors, or do not name their layers.
    """
    if source.suffix == ".gguf":
        from calibration.checkpoints.cut_gguf import cut_gguf

        return cut_gguf(source, destination / source.name, rung)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for file in source.iterdir():
        if file.is_file() and not _WEIGHTS.fullmatch(file.name):
            shutil.copyfile(file, destination / file.name)
    write_json(destination / "config.json", cut_config(config, rung))
    for name in _QUANT_FILES:
        if (source / name).is_file():
            content = json.loads((source / name).read_text(encoding="utf-8"))
            write_json(destination / name, without_later_layers(content, rung.layers))
    places = _indexed(source)
    files = [source / name for name in shards_of(source, rung)] if places else _files(source)
    tensors = [tensor for file in files for tensor in _tensors(file)]
    kept = set(kept_tensors(places or [tensor.name for tensor in tensors], rung))
    _write_tensors([tensor for tensor in tensors if tensor.name in kept], destination / "model.safetensors")
    return destination


def shards_of(source: Path, rung: Rung) -> list[str]:
    """The weight files that hold the first layers, by the index of a folder; empty where it has none.

    Raises:
        ValueError: the weights do not name their layers.
    """
    places = _indexed(source)
    return sorted({places[name] for name in kept_tensors(places, rung)}) if places else []


def all_shards(source: Path) -> set[str]:
    """The weight files that the index of a folder names; empty where it has none."""
    return set(_indexed(source).values())


def check_layers(source: Path, config: Mapping[str, Any], rung: Rung) -> None:
    """Look whether the first layers of a folder, or of a .gguf file, can be read alone; weights that are not here pass.

    Args:
        config: of the model.

    Raises:
        ValueError: they cannot, and why.
        OSError: a file cannot be read.
    """
    if any(_is_packed(name, value) for table in _tables(config) for name, value in table.items()):
        raise ValueError("the embeddings of all layers are one matrix")
    if source.suffix == ".gguf":
        return
    if places := _indexed(source):
        names = list(places)
    elif any(source.glob("*.safetensors")) or any(source.glob("*.bin")):
        names = [tensor.name for file in _files(source) for tensor in _tensors(file)]
    else:
        return
    list(kept_tensors(names, rung))


def kept_tensors(names: Iterable[str], rung: Rung) -> Iterator[str]:
    """Of the tensors of a checkpoint those of its first layers, and those of no layer.

    The layers are the numbered modules of which there are `rung.of` or more, other towers' apart.

    Raises:
        ValueError: no modules are numbered like that.
    """
    places = {name: _place(name) for name in names}
    numbers: dict[str, set[int]] = {}
    for place in places.values():
        if place is not None:
            numbers.setdefault(place[0], set()).add(place[1])
    every_layer = set(range(rung.of))
    stacks = {name for name, held in numbers.items() if every_layer <= held and not OTHER_TOWERS.search(name)}
    if not stacks:
        most = max(numbers, key=lambda name: len(numbers[name]), default="none")
        raise ValueError(f"the weights need modules numbered 0 to {rung.of - 1}; most are in {most!r}")
    for name, place in places.items():
        if _PREDICTORS.fullmatch(name):
            continue
        if place is None or place[0] not in stacks or place[1] < rung.layers:
            yield name


def _tables(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield config
    yield from (table for table in config.values() if isinstance(table, dict))


def _is_packed(name: str, value: Any) -> bool:
    """Gemma 3n and 4 keep the embeddings that they add to each layer in one matrix, a strip a layer."""
    packed = name == "hidden_size_per_layer_input" or name.endswith(".embedding_length_per_layer_input")
    return packed and bool(value)


def _place(name: str) -> tuple[str, int] | None:
    """`model.layers.3.mlp.weight`: ("model.layers", 3); None where nothing is numbered."""
    parts = name.split(".")
    for number, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[:number]), int(part)
    return None


def _indexed(source: Path) -> dict[str, str]:
    """By the index of a folder, which need not have all its files here: the file of each tensor; empty without one."""
    index = source / "model.safetensors.index.json"
    if not index.is_file():
        return {}
    places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return places


def _files(source: Path) -> list[Path]:
    """The safetensors files of a model without an index.

    Raises:
        ValueError: there are none.
    """
    single = source / "model.safetensors"
    files = [single] if single.is_file() else sorted(source.glob("*.safetensors"))
    files = [file for file in files if not file.name.startswith(_SECOND_COPIES)]
    if not files:
        raise ValueError(f"needs weights as safetensors; found none in {source}")
    return files


def _tensors(file: Path) -> Iterator[Tensor]:
    """What a safetensors file holds: https://huggingface.co/docs/safetensors, "Format"."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield Tensor(name=name, file=file, at=8 + length + begin, size=end - begin, header=entry)


def _write_tensors(tensors: Iterable[Tensor], destination: Path) -> None:
    ordered = sorted(tensors, key=lambda tensor: (-tensor.width, tensor.name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in ordered:
        header[tensor.name] = {**tensor.header, "data_offsets": [end, end + tensor.size]}
        end += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with destination.open("wb") as out:
        out.write(len(text).to_bytes(8, "little"))
        out.write(text)
        for tensor in ordered:
            with tensor.file.open("rb") as opened:
                opened.seek(tensor.at)
                _copy(opened, out, tensor.size)


def _copy(source: IO[bytes], destination: IO[bytes], size: int) -> None:
    """Copy so many bytes.

    Raises:
        ValueError: the source ends before.
    """
    while size:
        piece = source.read(min(size, _AT_ONCE))
        if not piece:
            raise ValueError(f"{source.name} ends inside a tensor: {size} bytes are missing")
        destination.write(piece)
        size -= len(piece)


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    cut_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), Rung.parse(sys.argv[3]))
