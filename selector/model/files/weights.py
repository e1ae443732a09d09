"""Weights: which files of a folder hold the weights and how large they are; none of them is opened."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from calibration.errors import ModelError
from selector.model.fields import shown

CONFIG_BYTES: Final = 32 << 20
"""The largest published config.json is below 100 KB, the largest weights index (a trillion parameters) about 15 MB."""
INDEX_BYTES: Final = 256 << 20

BESIDE: Final = ("hf_quant_config.json", "quant_config.json", "quantize_config.json")
"""Files that declare the quant format beside config.json: ModelOpt's, llm-awq's, AutoGPTQ's."""
INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES: Final = ("model.safetensors", "pytorch_model.bin")
_SECOND_COPIES: Final = ("consolidated", "adapter_", "original", "optimizer", "training_args", "rng_state", "scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weight files of a model."""

    total_bytes: int = 0
    """0 where there are no weight files."""
    parameters: int | None = None
    """What the index says (`total_parameters`)."""
    identity: str = ""
    """Hash of names, sizes and times."""


def read_object(path: Path, most_bytes: int = CONFIG_BYTES, *, mend: str = "") -> tuple[dict[str, Any], bytes]:
    """A JSON object and the bytes it was read from.

    Raises:
        ModelError: the file is missing, cannot be read, is too large, not UTF-8, not JSON, or not an object.
    """
    mend = mend or f"fetch {path.name} again from where the model was published"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path} is not a file", mend)
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}", mend) from None
    except ValueError as error:  # a zero byte in the path
        raise ModelError(f"{str(path)!r} cannot be read: {error}", mend) from None
    if len(raw) > most_bytes:
        raise ModelError(f"{path} is larger than {most_bytes >> 20} MiB", mend)
    return parse_object(raw, str(path), mend), raw


def parse_object(raw: bytes, where: str, mend: str) -> dict[str, Any]:
    """A JSON object from bytes.

    Raises:
        ModelError: see read_object.
    """
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ModelError(f"{where} is not UTF-8: {error.reason} at byte {error.start}", mend) from None
    except RecursionError:
        raise ModelError(f"{where} is nested too deeply", mend) from None
    except ValueError as error:
        raise ModelError(f"{where} is not JSON: {error}", mend) from None
    if type(value) is not dict:
        kind = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}.get(type(value), "a number")
        raise ModelError(f"{where} needs a JSON object; found {kind}", mend)
    return value


def is_weights(name: str) -> bool:
    """The name of a weight file, and not of a second copy or of something else that is stored like weights."""
    return name.endswith((".safetensors", ".bin")) and "/" not in name and not name.startswith(_SECOND_COPIES)


def find_weights(folder: Path, names: Iterable[str], *, listed: Mapping[str, int] | None = None) -> Weights:
    """The weights of `folder`.

    Args:
        folder: A Hugging Face folder.
        names: What is in it.
        listed: Of a snapshot of the hub, the sizes of the files that the hub has: these need not be here.

    Raises:
        ModelError: an index that cannot be read, or that names files that are not there.
    """
    held = set(names)
    present = held | set(listed or ())
    for index in INDEXES:
        if index not in held:
            continue
        shards, metadata = _read_index(folder / index)
        files = _files(folder, shards, listed or {})
        missing = [shard for shard in shards if shard not in files]
        if missing and listed is None:
            first = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            raise ModelError(
                f"{folder / index} names {len(missing)} of {len(shards)} files that are not there: {first}",
                f"fetch the missing files, or remove {index} to work with the shape alone",
            )
        return replace(
            _sum(files),
            total_bytes=_count(metadata.get("total_size")) if missing else sum(size for size, _ in files.values()),
            parameters=_count(metadata.get("total_parameters")) or None,
        )
    for single in _SINGLES:
        if single in present and (files := _files(folder, [single], listed or {})):
            return _sum(files)
    loose = sorted(name for name in present if is_weights(name))
    safe = [name for name in loose if name.endswith(".safetensors")]
    return _sum(_files(folder, safe or loose, listed or {}))


def _files(folder: Path, names: Iterable[str], listed: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Size and modification time (0 on the hub) of the files that exist."""
    files = {}
    for name in names:
        if (status := _status(folder / name)) is not None:
            files[name] = status.st_size, status.st_mtime_ns
        elif name in listed:
            files[name] = listed[name], 0
    return files


def _count(value: object) -> int:
    """A count from an index's metadata, which some tools write as a float; 0 where it is not a count."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value < 1 << 60 else 0


def _read_index(path: Path) -> tuple[list[str], Mapping[str, Any]]:
    """Names of the files, and the metadata.

    Raises:
        ModelError: see read_object; the map does not lead from tensors to the names of files beside it.
    """
    content, _ = read_object(path, INDEX_BYTES)
    mend = f"fetch {path.name} again from where the model was published"
    names, metadata = content.get("weight_map"), content.get("metadata")
    if type(names) is not dict or not names:
        raise ModelError(f"{path}: weight_map needs an object of tensors and files; found {shown(names)}", mend)
    shards = dict.fromkeys(names.values()) if all(type(name) is str for name in names.values()) else {"": None}
    for shard in shards:
        if not shard or "\0" in shard or len(shard) > 255 or PurePosixPath(shard).is_absolute() or ".." in shard:
            raise ModelError(f"{path}: weight_map needs names of files beside it; found {shown(shard)}", mend)
    return sorted(shards), metadata if type(metadata) is dict else {}


def _status(path: Path) -> os.stat_result | None:
    """Of a regular file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _sum(files: Mapping[str, tuple[int, int]]) -> Weights:
    listing = "".join(f"{name}\0{size}\0{time}\0" for name, (size, time) in sorted(files.items()))
    return Weights(
        total_bytes=sum(size for size, _ in files.values()),
        identity=hashlib.sha256(listing.encode("utf-8", "surrogatepass")).hexdigest() if files else "",
    )
