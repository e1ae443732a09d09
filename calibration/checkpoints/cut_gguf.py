"""Writes the first layers of a .gguf file as a file of their own, in the types that they have."""

import re
from pathlib import Path
from typing import Any

from calibration.rung import Rung

_SPLIT = re.compile(r"(.*)-00001-of-(\d{5})\.gguf")
_LAYER = re.compile(r"blk\.(\d+)\.")
_NO_LAYERS = ("rope.dimension_sections",)
"""Ends of the names of lists that may by chance be as long as the model has layers."""


def cut_gguf(source: Path, destination: Path, rung: Rung) -> Path:
    """Write the first layers of `source`, whose parts are beside it if it is the first of several.

    Returns:
        The file: `destination`, without the number of a part in its name.

    Raises:
        ValueError: the file has another number of layers.
    """
    import gguf

    readers = [gguf.GGUFReader(file) for file in _parts(source)]
    fields = readers[0].fields
    architecture = str(fields["general.architecture"].contents())
    blocks = f"{architecture}.block_count"
    if blocks not in fields or fields[blocks].contents() != rung.of:
        found = fields[blocks].contents() if blocks in fields else "none"
        raise ValueError(f"needs {rung.of} as {blocks} in {source}; found {found}")
    destination = destination.with_name(f"{split[1]}.gguf") if (split := _SPLIT.fullmatch(source.name)) else destination
    writer = gguf.GGUFWriter(destination, architecture, endianess=readers[0].endianess)
    if (alignment := fields.get("general.alignment")) is not None:
        writer.add_custom_alignment(int(alignment.contents()))
    for name, field in fields.items():
        # The writer writes the first of these by itself, and a file of one part has no `split`.
        if name.startswith(("GGUF.", "split.")) or name in {"general.architecture", "general.alignment"}:
            continue
        value = field.contents()
        if name.startswith(f"{architecture}."):
            value = _cut_field(name.removeprefix(f"{architecture}."), value, rung)
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], inner)
    kept = [(reader, tensor) for reader in readers for tensor in reader.tensors if _is_kept(tensor.name, rung)]
    for _, tensor in kept:
        writer.add_tensor_info(
            tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for reader, tensor in kept:
        writer.write_tensor_data(tensor.data, tensor_endianess=reader.endianess)
    writer.close()
    return destination


def _parts(source: Path) -> list[Path]:
    split = _SPLIT.fullmatch(source.name)
    if split is None:
        return [source]
    count = int(split[2])
    return [source.with_name(f"{split[1]}-{part:05d}-of-{count:05d}.gguf") for part in range(1, count + 1)]


def _cut_field(name: str, value: Any, rung: Rung) -> Any:
    """What a field says of the first layers, by its name without that of the architecture."""
    match value:
        case list() if len(value) == rung.of and not name.endswith(_NO_LAYERS):
            return value[: rung.layers]
        case int() if name == "block_count":
            return rung.layers
        case int() if name == "leading_dense_block_count":
            return min(value, rung.layers)
        case int() if name == "attention.shared_kv_layers":
            return max(0, value - (rung.of - rung.layers))
        case int() if name == "nextn_predict_layers":
            return 0
        case _:
            return value


def _is_kept(name: str, rung: Rung) -> bool:
    layer = _LAYER.match(name)
    return layer is None or int(layer[1]) < rung.layers
