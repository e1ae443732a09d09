"""Writes quantised checkpoints by rounding to nearest, each with the plain checkpoint that it stands for.

`python -m benchmarks.rule_truth.cases.quant_formats FORMAT SOURCE DESTINATION` writes DESTINATION, and beside it, in
DESTINATION/../stands-for, the model whose float32 weights are what the codes mean: the reference is computed of that.
Layouts: AutoGPTQ auto_gptq/nn_modules/qlinear, AutoAWQ awq/modules/linear/gemm.py, DeepSeek-V3's fp8 weights
(inference/kernel.py), compressed-tensors compressors/quantized_compressors, OCP microscaling formats v1.0.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.checkpoints.dequantise import matrix

if TYPE_CHECKING:
    from torch import Tensor

STANDS_FOR = "stands-for"
GGUF = "gguf-"
"""Formats of .gguf files begin with it; the rest names a variant of llamacpp, which writes it."""
_LINEAR = re.compile(r"(_proj|\.w[123])\.weight$")
"""Weights of linear layers, of experts too; routers, norms, embeddings and the head stay as they are."""
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The column of each of the eight codes of a word, from the lowest bits on."""
_FP8_MOST = 448.0
"""Largest number of float8 e4m3."""
_BLOCK = 128

Quantised = tuple[dict[str, "Tensor"], "Tensor"]
"""The tensors by suffix, and the float32 matrix [out, in] that they mean."""


@dataclass(frozen=True, slots=True)
class Format:
    """A quant format."""

    config: Mapping[str, Any]
    """quantization_config"""
    quantise: Callable[["Tensor", Mapping[str, Any]], Quantised]
    """Of a weight [out, in] in float32, and the config."""


def main() -> None:
    name, source, destination = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if name.startswith(GGUF):
        _write_gguf(name.removeprefix(GGUF), source, destination)
    else:
        _write(FORMATS[name], source, destination, destination.parent / STANDS_FOR)


def _write(form: Format, source: Path, destination: Path, stands_for: Path) -> None:
    """Write both checkpoints."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for folder in (destination, stands_for):
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    coded, plain = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, tensor in load_file(source / "model.safetensors").items():
        if tensor.ndim == 2 and _LINEAR.search(name):
            parts, meant = form.quantise(tensor.float(), form.config)
            layer = name.removesuffix(".weight")
            coded |= {f"{layer}{suffix}": part.contiguous() for suffix, part in parts.items()}
            plain[name] = meant.contiguous()
        else:
            coded[name] = tensor
            plain[name] = tensor.float() if tensor.is_floating_point() else tensor
    if len(coded) == len(plain):
        raise SystemExit("no linear layer of the model is named as the format's writers know them")
    save_file(coded, destination / "model.safetensors", metadata={"format": "pt"})
    save_file(plain, stands_for / "model.safetensors", metadata={"format": "pt"})
    _write_config(destination, {**config, "quantization_config": dict(form.config)})
    _write_config(stands_for, {**config, "dtype" if "dtype" in config else "torch_dtype": "float32"})


def _write_config(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_gguf(variant: str, source: Path, destination: Path) -> None:
    """A .gguf file, as the backend converts for its own use."""
    from calibration.backend import Job
    from calibration.registry import find

    backend = find("llamacpp")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    destination.mkdir()
    job = Job(
        model_dir=source,
        variant=backend.variant(variant),
        artifact_dir=destination,
        dtype=config.get("torch_dtype", "float32"),
        vocab_size=config["vocab_size"],
        device="cpu",
        threads=1,
        max_context_tokens=128,
        max_batch=2,
    )
    backend.prepare(job, destination, print)


def _gptq(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    """Codes of `bits` bits; with desc_act the columns of a group lie apart."""
    import torch

    bits, group, inner = config["bits"], config["group_size"], weight.shape[1]
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
    return _named(parts), matrix(parts, dict(config)).float()


def _awq(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    codes, zeros, scales = _rounded(weight, 4, config["group_size"], symmetric=False)
    parts = {
        "qweight": _words(_in_awq_order(codes.T), 4, 1),
        "qzeros": _words(_in_awq_order(zeros.T), 4, 1),
        "scales": scales.T.half(),
    }
    return _named(parts), matrix(parts, dict(config)).float()


def _fp8_blocks(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    import torch

    out, inner = weight.shape
    rows, columns = -(-out // _BLOCK), -(-inner // _BLOCK)
    scales = torch.empty(rows, columns)
    spread = torch.empty_like(weight)
    for row in range(rows):
        for column in range(columns):
            block = (slice(row * _BLOCK, (row + 1) * _BLOCK), slice(column * _BLOCK, (column + 1) * _BLOCK))
            scales[row, column] = weight[block].abs().max() / _FP8_MOST
            spread[block] = scales[row, column]
    coded = (weight / spread).to(torch.float8_e4m3fn)
    return {".weight": coded, ".weight_scale_inv": scales}, coded.float() * spread


def _fp8_tensor(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    import torch

    scale = weight.abs().max().reshape(1) / _FP8_MOST
    coded = (weight / scale).to(torch.float8_e4m3fn)
    return {".weight": coded, ".weight_scale": scale}, coded.float() * scale


def _compressed_packed(weight: "Tensor", config: Mapping[str, Any]) -> Quantised:
    """Codes of 4 or 8 bits in words along the inputs."""
    import torch

    weights = config["config_groups"]["group_0"]["weights"]
    bits, inner = weights["num_bits"], weight.shape[1]
    group = weights["group_size"] or inner
    codes, _, scales = _rounded(weight, bits, group, symmetric=True)
    meant = (codes - (1 << (bits - 1))) * scales.bfloat16().float().repeat_interleave(group, dim=1)
    parts = {
        ".weight_packed": _words(codes, bits, 1),
        ".weight_scale": scales.bfloat16(),
        ".weight_shape": torch.tensor(weight.shape),
    }
    return parts, meant


def _compressed_int8(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    import torch

    codes, _, scales = _rounded(weight, 8, weight.shape[1], symmetric=True)
    coded = (codes - 128).to(torch.int8)
    return {".weight": coded, ".weight_scale": scales.bfloat16()}, coded.float() * scales.bfloat16().float()


def _compressed_fp8(weight: "Tensor", _config: Mapping[str, Any]) -> Quantised:
    import torch

    scales = (weight.abs().amax(dim=1, keepdim=True) / _FP8_MOST).bfloat16()
    coded = (weight / scales.float()).to(torch.float8_e4m3fn)
    return {".weight": coded, ".weight_scale": scales}, coded.float() * scales.float()


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


def _compressed(form: str, bits: int, group: int | None, *, kind: str = "int", **more: Any) -> dict[str, Any]:
    """As llm-compressor publishes it: `format` at the top, and not in each group."""
    weights = {
        "num_bits": bits,
        "group_size": group,
        "strategy": "group" if group else "channel",
        "symmetric": True,
        "dynamic": False,
        "type": kind,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, **more}},
    }


_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False, "lm_head": False}
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
_FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
_TOKENS = {"num_bits": 8, "strategy": "token", "symmetric": True, "dynamic": True}

FORMATS: dict[str, Format] = {
    "gptq-4bit": Format({**_GPTQ, "checkpoint_format": "gptq"}, _gptq),
    "gptq-4bit-unstated": Format(_GPTQ, _gptq),
    "gptq-4bit-g32": Format({**_GPTQ, "checkpoint_format": "gptq", "group_size": 32}, _gptq),
    "gptq-4bit-desc_act": Format({**_GPTQ, "checkpoint_format": "gptq", "desc_act": True}, _gptq),
    "gptq-4bit-asym": Format({**_GPTQ, "checkpoint_format": "gptq", "sym": False}, _gptq),
    "gptq-4bit-v2": Format({**_GPTQ, "checkpoint_format": "gptq_v2"}, _gptq),
    "gptq-8bit": Format({**_GPTQ, "checkpoint_format": "gptq", "bits": 8}, _gptq),
    "awq-4bit": Format(_AWQ, _awq),
    "awq-4bit-GEMM": Format({**_AWQ, "version": "GEMM"}, _awq),
    "awq-4bit-g64": Format({**_AWQ, "group_size": 64}, _awq),
    "fp8-blocks": Format({**_FP8, "weight_block_size": [_BLOCK, _BLOCK]}, _fp8_blocks),
    "fp8-tensor": Format(_FP8, _fp8_tensor),
    "compressed-4bit": Format(_compressed("pack-quantized", 4, 128), _compressed_packed),
    "compressed-4bit-g32": Format(_compressed("pack-quantized", 4, 32), _compressed_packed),
    "compressed-8bit": Format(_compressed("pack-quantized", 8, None), _compressed_packed),
    "compressed-int8-a8": Format(
        _compressed("int-quantized", 8, None, input_activations={**_TOKENS, "type": "int"}), _compressed_int8
    ),
    "compressed-fp8-a8": Format(
        _compressed("float-quantized", 8, None, kind="float", input_activations={**_TOKENS, "type": "float"}),
        _compressed_fp8,
    ),
}
GGUF_VARIANTS = ("f16", "q8_0", "q4_0", "q4_k_m")


if __name__ == "__main__":
    main()
