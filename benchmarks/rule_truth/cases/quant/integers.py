"""Weights as integers with scales: what GPTQ, AWQ, compressed-tensors, HQQ and bitsandbytes' 8 bits keep.

Layouts: AutoGPTQ auto_gptq/nn_modules/qlinear, AutoAWQ awq/modules/linear/gemm.py, compressed-tensors
compressors/quantized_compressors, hqq core/quantize.py and core/bitpack.py, bitsandbytes nn/modules.py (Linear8bitLt).
Each function takes a weight [out, in] in float32 and the quantization_config.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibration.checkpoints.dequantise import matrix

if TYPE_CHECKING:
    from torch import Tensor

Quantised = tuple[dict[str, "Tensor"], "Tensor"]
"""The tensors by suffix, and the float32 matrix that they mean."""
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The column of each of the eight codes of a word, from the lowest bits on."""


def gptq(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    """Codes of `bits` bits; with desc_act the columns of a group lie apart."""
    import torch

    bits, inner = config["bits"], weight.shape[1]
    group = _group(config, inner)
    order = torch.randperm(inner) if config["desc_act"] else torch.arange(inner)
    group_of = torch.empty(inner, dtype=torch.long)
    group_of[order] = torch.arange(inner) // group
    codes, zeros, scales = _rounded(weight[:, order], bits, group, symmetric=config["sym"])
    codes = codes[:, order.argsort()]
    less = 0 if config.get("checkpoint_format") == "gptq_v2" else 1
    parts = {
        "qweight": _words(codes.T, bits, 0),
        "qzeros": _words((zeros.T - less) % (1 << bits), bits, 1),
        "scales": scales.T.half(),
        "g_idx": group_of.int(),
    }
    return _named(parts), matrix(parts, {**config, "group_size": group})


def awq(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    group = _group(config, weight.shape[1])
    codes, zeros, scales = _rounded(weight, 4, group, symmetric=False)
    parts = {
        "qweight": _words(_in_awq_order(codes.T), 4, 1),
        "qzeros": _words(_in_awq_order(zeros.T), 4, 1),
        "scales": scales.T.half(),
    }
    return _named(parts), matrix(parts, {**config, "group_size": group})


def compressed_packed(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    """Codes of 4 or 8 bits in words along the inputs."""
    import torch

    weights = config["config_groups"]["group_0"]["weights"]
    bits, inner = weights["num_bits"], weight.shape[1]
    group = weights["group_size"] or inner
    codes, zeros, scales = _rounded(weight, bits, group, symmetric=weights["symmetric"])
    spread = scales.bfloat16().float().repeat_interleave(group, dim=1)
    meant = (codes - zeros.repeat_interleave(group, dim=1)) * spread
    parts = {
        ".weight_packed": _words(codes, bits, 1),
        ".weight_scale": scales.bfloat16(),
        ".weight_shape": torch.tensor(weight.shape),
    }
    return parts if weights["symmetric"] else {**parts, ".weight_zero_point": _words(zeros, bits, 0)}, meant


def compressed_int8(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    import torch

    codes, _, scales = _rounded(weight, 8, weight.shape[1], symmetric=True)
    coded = (codes - 128).to(torch.int8)
    return {".weight": coded, ".weight_scale": scales.bfloat16()}, coded.float() * scales.bfloat16().float()


def bitsandbytes_int8(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    """LLM.int8(): rows of 8-bit numbers, each with its largest magnitude."""
    import torch

    most = weight.abs().amax(dim=1)
    coded = (weight / most[:, None] * 127).round().to(torch.int8)
    parts = {".weight": coded, ".SCB": most, ".weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, coded.float() * most[:, None] / 127


def hqq(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    """Groups of a row, two codes in a byte: in the high bits those of the first half of all groups."""
    import torch

    group = config["quant_config"]["weight_quant_params"]["group_size"]
    codes, zeros, scales = _rounded(weight, 4, group, symmetric=False)
    rows = codes.reshape(-1, group).to(torch.uint8)
    half = len(rows) // 2
    meant = (codes - zeros.repeat_interleave(group, dim=1)) * scales.half().float().repeat_interleave(group, dim=1)
    words = {"packing": "4bit_u8", "unpack_view_dtype": "torch.uint8", "compute_dtype": "torch.float16"}
    numbers = {"nbits": 4, "group_size": group, "axis": 1}
    flags = {
        "view_as_float": 0,
        "offload_meta": 0,
        "encoded_state_dict": 1,
        "stores_quant_config": 1,
        "channel_wise": 1,
        "quant_scale": 0,
        "quant_zero": 0,
        "optimize": 1,
        "round_zero": 0,
    }
    parts = {
        ".W_q": rows[:half] << 4 | rows[half:],
        ".scale": scales.reshape(-1, 1).half(),
        ".zero": zeros.reshape(-1, 1).half(),
        ".shape": torch.tensor(weight.shape),
        **{f".{name}": torch.tensor(list(word.encode()), dtype=torch.uint8) for name, word in words.items()},
        **{f".{name}": torch.tensor(number, dtype=torch.int32) for name, number in numbers.items()},
        **{f".{name}": torch.tensor(flag, dtype=torch.uint8) for name, flag in flags.items()},
    }
    return parts, meant


def _group(config: Mapping[str, Any], inner: int) -> int:
    """How many weights share a scale: a whole row where the config says -1 or nothing."""
    size = config["group_size"]
    return inner if size in {None, -1} else int(size)


def _rounded(weight: "Tensor", bits: int, group: int, *, symmetric: bool) -> "tuple[Tensor, Tensor, Tensor]":
    """Codes [out, in] from 0 on, zero points [out, groups], scales [out, groups] as float16 holds them."""
    import torch

    out, inner = weight.shape
    if inner % group:
        raise SystemExit(f"a weight of {out} x {inner} cannot be cut into groups of {group}")
    most, groups = (1 << bits) - 1, weight.reshape(out, inner // group, group)
    if symmetric:
        scales = groups.abs().amax(dim=2) / (most // 2)
        zeros = torch.full_like(scales, (most + 1) // 2)
    else:
        low, high = groups.amin(dim=2).clamp(max=0), groups.amax(dim=2).clamp(min=0)
        scales = (high - low) / most
        zeros = (-low / scales.clamp(min=1e-6)).round()
    scales = scales.clamp(min=1e-6).half().float()
    codes = ((groups / scales[:, :, None]).round() + zeros[:, :, None]).clamp(0, most)
    return codes.reshape(out, inner).long(), zeros.clamp(0, most).long(), scales


def _words(codes: "Tensor", bits: int, axis: int) -> "Tensor":
    """Codes in 32-bit words along an axis, the first in the lowest bits."""
    import torch

    parts = codes.long().unflatten(axis, (-1, 32 // bits))
    shifts = torch.arange(0, 32, bits).reshape([-1 if i == axis + 1 else 1 for i in range(parts.ndim)])
    total = (parts << shifts).sum(dim=axis + 1)
    return torch.where(total >= 1 << 31, total - (1 << 32), total).to(torch.int32).contiguous()


def _in_awq_order(codes: "Tensor") -> "Tensor":
    import torch

    return codes.reshape(len(codes), -1, 8)[:, :, torch.tensor(_AWQ_ORDER)].reshape(len(codes), -1)


def _named(parts: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    return {f".{name}": part for name, part in parts.items()}
