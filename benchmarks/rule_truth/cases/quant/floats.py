"""Weights as floating-point numbers of 8 and 4 bits, with scales.

Layouts: DeepSeek-V3's fp8 weights (inference/kernel.py), compressed-tensors compressors/quantized_compressors, OCP
microscaling formats v1.0 as openai/gpt-oss has them (transformers integrations/mxfp4.py), bitsandbytes functional.py
(QuantState.as_dict, get_4bit_type).
Each function takes a weight [out, in] in float32 and the quantization_config.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.rule_truth.cases.quant.integers import Quantised

if TYPE_CHECKING:
    from torch import Tensor

_FP8_MOST = 448.0
"""Largest number of float8 e4m3."""
_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The sixteen numbers of e2m1."""
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The sixteen numbers of bitsandbytes' nf4 (QLoRA, appendix E)."""
_BNB_FP4 = tuple(sign * number / 12 for sign in (1, -1) for number in (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0))
"""bitsandbytes' own order, and its own least number."""
_BNB_BLOCK = 64
_LARGEST_INPUT = 8.0
"""What a calibration of activations could have seen: those of a norm stay below it."""
BLOCK = 128


def fp8_blocks(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    import torch

    out, inner = weight.shape
    rows, columns = -(-out // BLOCK), -(-inner // BLOCK)
    scales = torch.empty(rows, columns)
    spread = torch.empty_like(weight)
    for row in range(rows):
        for column in range(columns):
            block = (slice(row * BLOCK, (row + 1) * BLOCK), slice(column * BLOCK, (column + 1) * BLOCK))
            scales[row, column] = weight[block].abs().max() / _FP8_MOST
            spread[block] = scales[row, column]
    coded = (weight / spread).to(torch.float8_e4m3fn)
    return {".weight": coded, ".weight_scale_inv": scales}, coded.float() * spread


def fp8_tensor(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    import torch

    scale = weight.abs().max().reshape(1) / _FP8_MOST
    coded = (weight / scale).to(torch.float8_e4m3fn)
    given = {".input_scale": torch.ones(1) * _LARGEST_INPUT / _FP8_MOST} if _is_static(config) else {}
    return {".weight": coded, ".weight_scale": scale, **given}, coded.float() * scale


def compressed_fp8(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    import torch

    scales = (weight.abs().amax(dim=1, keepdim=True) / _FP8_MOST).bfloat16()
    coded = (weight / scales.float()).to(torch.float8_e4m3fn)
    return {".weight": coded, ".weight_scale": scales}, coded.float() * scales.float()


def fbgemm_fp8(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    """A scale in float32 for each row."""
    import torch

    scales = weight.abs().amax(dim=1, keepdim=True) / _FP8_MOST
    coded = (weight / scales).to(torch.float8_e4m3fn)
    return {".weight": coded, ".weight_scale": scales}, coded.float() * scales


def compressed_fp8_blocks(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    """As DeepSeek's blocks, with scales in bfloat16 under another name."""
    parts, _ = fp8_blocks(weight, config)
    coded, scales = parts[".weight"], parts[".weight_scale_inv"].bfloat16()
    rows, columns = weight.shape
    spread = scales.float().repeat_interleave(BLOCK, dim=0).repeat_interleave(BLOCK, dim=1)
    return {".weight": coded, ".weight_scale": scales}, coded.float() * spread[:rows, :columns]


def compressed_nvfp4(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    """Groups of 16 with scales in e4m3, which a scale of the whole matrix divides."""
    import torch

    groups = weight.reshape(len(weight), -1, 16)
    whole = _FP8_MOST * 6 / weight.abs().max()
    scales = (groups.abs().amax(dim=2) / 6 * whole).to(torch.float8_e4m3fn)
    spread = (scales.float() / whole)[:, :, None]
    codes = _nearest(groups / spread.clamp(min=1e-12), _FP4)
    parts = {
        ".weight_packed": _low_first(codes.reshape(len(weight), -1)),
        ".weight_scale": scales,
        ".weight_global_scale": whole.reshape(1),
    }
    return parts, (torch.tensor(_FP4)[codes] * spread).reshape_as(weight)


def mxfp4(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    """Of the experts of a layer, [experts, in, out]: groups of 32 inputs with a power of two."""
    import torch

    groups = weight.transpose(1, 2).unflatten(2, (-1, 32))
    powers = (groups.abs().amax(dim=3).clamp(min=1e-12) / 4).log2().floor().clamp(-127, 127)
    spread = powers.exp2()[..., None]
    codes = _nearest(groups / spread, _FP4)
    meant = (torch.tensor(_FP4)[codes] * spread).flatten(2).transpose(1, 2)
    return {"_blocks": _low_first(codes), "_scales": (powers + 127).to(torch.uint8)}, meant


def bitsandbytes_4bit(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    """Blocks of 64 in nf4 or fp4, two codes in a byte, the first in the high bits."""
    import json

    import torch

    form = config["bnb_4bit_quant_type"]
    table = _NF4 if form == "nf4" else _BNB_FP4
    blocks = weight.reshape(-1, _BNB_BLOCK)
    most = blocks.abs().amax(dim=1)
    codes = _nearest(blocks / most[:, None].clamp(min=1e-12), table)
    flat = codes.reshape(-1).to(torch.uint8)
    state = {"quant_type": form, "blocksize": _BNB_BLOCK, "dtype": "float16", "shape": list(weight.shape)}
    parts = {
        ".weight": (flat[0::2] << 4 | flat[1::2])[:, None],
        ".weight.absmax": most,
        ".weight.quant_map": torch.tensor(table),
        f".weight.quant_state.bitsandbytes__{form}": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }
    return parts, (torch.tensor(table)[codes] * most[:, None]).reshape_as(weight)


def _is_static(config: Mapping[str, Any]) -> bool:
    return config.get("activation_scheme") == "static" or "quant_algo" in config


def _nearest(numbers: "Tensor", table: tuple[float, ...]) -> "Tensor":
    """The code of the nearest number of a table."""
    import torch

    return (numbers[..., None] - torch.tensor(table)).abs().argmin(dim=-1)


def _low_first(codes: "Tensor") -> "Tensor":
    """Two codes in a byte along the last axis, the first in the low bits."""
    import torch

    pairs = codes.to(torch.uint8).unflatten(-1, (-1, 2))
    low, high = pairs.unbind(dim=-1)
    packed: Tensor = low | high << 4
    return packed
