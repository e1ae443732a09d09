"""Writes a GPTQ or AWQ checkpoint as the float32 checkpoint that it stands for, to which engines are compared.

A code of at most 8 bits times a float16 scale has fewer than the 24 binary digits of a float32, which holds it exactly.
In float16 it would be rounded, and engines that hold what the codes mean would stand off by that.

Layouts: AutoGPTQ auto_gptq/nn_modules/qlinear (QuantLinear.pack), AutoAWQ awq/modules/linear/gemm.py (WQLinear_GEMM).
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.checkpoints.json_file import write_json

if TYPE_CHECKING:
    import torch

WORD_BITS = 32
SHARD_BYTES = 2 << 30
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AWQ's order of the eight codes of a word: the column of each, from the lowest bits on."""


def knows(method: str, bits: int | None, layout: str | None) -> bool:
    """Whether a checkpoint of this quantization can be dequantised here.

    Args:
        method: quant_method.
        layout: GPTQ's checkpoint_format, AWQ's version.
    """
    if method == "gptq":
        return bits in {2, 4, 8} and layout in {"gptq", "gptq_v2"}
    return method == "awq" and bits == 4 and layout == "gemm"


def dequantise(source: Path, destination: Path) -> None:
    """Write `source` with every quantised linear layer as the float32 matrix that it stands for.

    Raises:
        ValueError: the checkpoint's layout is not known here.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    quant = config.pop("quantization_config")
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name != "model.safetensors.index.json":
            shutil.copy(file, destination / file.name)
    config.pop("dtype", None)
    config["torch_dtype"] = "float32"
    write_json(destination / "config.json", config)

    opened: list[Any] = [safe_open(file, framework="pt") for file in sorted(source.glob("*.safetensors"))]
    places: dict[str, Any] = {name: shard for shard in opened for name in shard.keys()}  # noqa: SIM118  it is not a dict
    shards: list[dict[str, Any]] = [{}]
    written: dict[str, str] = {}

    def flush() -> None:
        name = f"model-{len(shards):05d}.safetensors"
        save_file(shards[-1], destination / name, metadata={"format": "pt"})
        written.update(dict.fromkeys(shards[-1], name))
        shards.append({})

    for name in sorted(places):
        layer, _, part = name.rpartition(".")
        if f"{layer}.qweight" in places and part in {"qweight", "qzeros", "scales", "g_idx"}:
            if part != "qweight":
                continue
            parts = {
                part: places[f"{layer}.{part}"].get_tensor(f"{layer}.{part}")
                for part in ("qweight", "qzeros", "scales", "g_idx")
                if f"{layer}.{part}" in places
            }
            shards[-1][f"{layer}.weight"] = matrix(parts, quant)
        else:
            shards[-1][name] = places[name].get_tensor(name)
        if sum(t.numel() * t.element_size() for t in shards[-1].values()) >= SHARD_BYTES:
            flush()
    if shards[-1]:
        flush()
    index = {"metadata": {}, "weight_map": written}
    (destination / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def matrix(parts: "dict[str, torch.Tensor]", quant: dict[str, Any]) -> "torch.Tensor":
    """The weights of a layer.

    Args:
        parts: qweight, qzeros, scales [groups, out] and, of GPTQ, g_idx [in].
        quant: the checkpoint's quantization_config.

    Returns:
        float32 [out, in].
    """
    import torch

    method = str(quant.get("quant_method"))
    bits = int(quant.get("bits", quant.get("w_bit", 0)))
    layout = str(quant.get("checkpoint_format", "gptq") if method == "gptq" else quant.get("version", "gemm")).lower()
    if not knows(method, bits, layout):
        raise ValueError(f"needs GPTQ in 2, 4 or 8 bits or AWQ gemm in 4; found {method}, {bits} bits, {layout}")
    if method == "awq":
        codes, zeros = _interleaved(parts["qweight"]), _interleaved(parts["qzeros"])
    else:
        codes, zeros = _codes(parts["qweight"], bits, 0), _codes(parts["qzeros"], bits, 1)
        if layout == "gptq":
            zeros = (zeros + 1) & ((1 << bits) - 1)  # this layout stores each zero less one
    scales = parts["scales"].float()
    inner, groups = len(codes), len(scales)
    group_of = parts["g_idx"].long() if "g_idx" in parts else torch.arange(inner) // -(-inner // groups)
    return ((codes - zeros[group_of]) * scales[group_of]).T.contiguous()


def _codes(words: "torch.Tensor", bits: int, axis: int) -> "torch.Tensor":
    """The numbers in 32-bit words along an axis, the first in the lowest bits."""
    import torch

    shifts = torch.arange(0, WORD_BITS, bits).reshape([-1 if i == axis + 1 else 1 for i in range(words.ndim + 1)])
    return ((words.unsqueeze(axis + 1) >> shifts) & ((1 << bits) - 1)).flatten(axis, axis + 1)


def _interleaved(words: "torch.Tensor") -> "torch.Tensor":
    """The columns in AWQ's order, as they stand in the matrix."""
    import torch

    codes = _codes(words, 4, 1).reshape(len(words), -1, len(_AWQ_ORDER))
    return codes[:, :, torch.tensor(_AWQ_ORDER).argsort()].reshape(len(words), -1)
