"""A plain GGUF file quantised by ggml's own code, in llama.cpp's mixes of types."""

from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any


def quantise(source: Path, destination: Path, name: str, threads: int) -> None:
    """Quantise an unquantised GGUF file with ggml's own code, tensor by tensor, each in parts on so many threads."""
    import gguf
    import numpy as np

    kinds: Any = gguf.GGMLQuantizationType
    reader = gguf.GGUFReader(source)
    family = str(reader.fields["general.architecture"].contents())
    layers = int(reader.fields[f"{family}.block_count"].contents())
    experts_field = reader.fields.get(f"{family}.expert_count")
    experts = int(experts_field.contents()) if experts_field else 0
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    writer = gguf.GGUFWriter(destination, family)
    # Before the vocabulary, where readers of the head alone find it.
    writer.add_file_type(int(gguf.LlamaFileType[f"MOSTLY_{name.upper()}"]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in _OWN_KEYS:
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=inner)
    chosen = []
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        kind = tensor.tensor_type
        if len(shape) > 1 and _quantisable(tensor.name):
            kind = kinds[_kind(name, tensor.name, shape[-1], layers=layers, experts=experts, tied=tied)]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        width = shape[-1] // block * size
        chosen.append((tensor, kind, (*shape[:-1], width)))
        writer.add_tensor_info(
            tensor.name, (*shape[:-1], width), np.dtype(np.uint8), int(np.prod(shape[:-1])) * width, raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with ThreadPoolExecutor(threads) as pool:
        for tensor, kind, byte_shape in chosen:
            as_it_is = kind == tensor.tensor_type
            writer.write_tensor_data(
                np.asarray(tensor.data).view(np.uint8).reshape(byte_shape)
                if as_it_is
                else _quantised(tensor, kind, byte_shape, pool)
            )
    writer.close()


_OWN_KEYS = frozenset({"general.architecture", "general.file_type", "general.quantization_version"})
"""Of the source's metadata: what the quantised file says for itself."""

_AT_ONCE = 1 << 21
"""Weights of a part, which a thread holds in float32 while it quantises them."""


def _quantised(tensor: Any, kind: Any, byte_shape: tuple[int, ...], pool: Executor) -> Any:
    """Bytes of `byte_shape`."""
    import ctypes

    import gguf
    import numpy as np
    import xllamacpp

    chunk: Any = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    chunk.restype = ctypes.c_size_t
    columns = int(tensor.shape[0])
    plain_rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    quantised_rows = np.empty((len(plain_rows), byte_shape[-1]), np.uint8)
    rows = max(1, _AT_ONCE // columns)

    def quantise_part(first: int) -> None:
        part = plain_rows[first : first + rows]
        weights = np.ascontiguousarray(gguf.quants.dequantize(part, tensor.tensor_type), np.float32)
        out = quantised_rows[first : first + rows]
        if kind == gguf.GGMLQuantizationType.F16:
            out[:] = weights.astype(np.float16).view(np.uint8)
            return
        written = chunk(int(kind), weights.ctypes.data, out.ctypes.data, 0, len(weights), columns, None)
        assert written == out.nbytes, (tensor.name, written, out.nbytes)

    # A list, so that what a part raises is raised here.
    list(pool.map(quantise_part, range(0, len(plain_rows), rows)))
    return quantised_rows.reshape(byte_shape)


_KEPT = ("_norm.weight", "ffn_gate_inp.weight", "position_embd", "token_types", "ssm_conv1d", "shortconv.conv.weight")
"""Parts of names of matrices that llama.cpp leaves as they are."""


def _quantisable(name: str) -> bool:
    return name.endswith("weight") and not any(part in name for part in _KEPT)


def _kind(mix: str, name: str, columns: int, *, layers: int, experts: int, tied: bool) -> str:
    """The type of a matrix in llama.cpp's mix, Q8_0, Q4_0 or Q4_K_M, for its name and the length of its rows."""
    kind = {"q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k_m": "Q4_K"}[mix]
    layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
    # The first and the last eighth of the layers, and every third between.
    favoured = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    part = name.removesuffix(".weight").rpartition(".")[2]
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        if kind != "Q8_0":
            kind = "Q8_0" if columns % _BLOCK[kind] else "Q6_K"
    elif part in {"attn_v", "attn_qkv", "attn_kv_b"}:
        if mix == "q4_k_m" and favoured:
            kind = "Q6_K"
        elif mix == "q4_k_m" and layers == 80:
            kind = "Q5_K"
        if experts == 8:
            kind = "Q8_0"
    elif part == "attn_k" and experts == 8:
        kind = "Q8_0"
    elif part.startswith("ffn_down") and mix == "q4_k_m" and favoured:
        kind = "Q6_K"
    elif part == "attn_output" and mix == "q4_k_m" and experts == 8:
        kind = "Q5_K"
    if columns % _BLOCK[kind]:
        kind = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}.get(kind, "F16")
    return "F16" if columns % _BLOCK.get(kind, 1) else kind


_BLOCK = {"Q8_0": 32, "Q4_0": 32, "Q5_0": 32, "Q5_1": 32, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256}
"""Weights that share a scale; a row is whole blocks."""
