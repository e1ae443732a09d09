"""The quant formats: what config.json says of each, and which function codes its weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.rule_truth.cases.quant import floats, integers
from benchmarks.rule_truth.cases.quant.floats import BLOCK
from benchmarks.rule_truth.cases.quant.integers import Quantised

if TYPE_CHECKING:
    from torch import Tensor

_LINEAR = re.compile(r"(_proj(_\w+)?|\.w[123])\.weight$")
"""Weights of linear layers, of experts too; routers, norms, embeddings and the head stay as they are."""


@dataclass(frozen=True, slots=True)
class Format:
    """A quant format."""

    config: Mapping[str, Any]
    """quantization_config"""
    quantise: Callable[["Tensor", Mapping[str, Any]], Quantised]
    """Of a weight in float32, and the config."""
    weights: re.Pattern[str] = _LINEAR
    """Names of the weights that it codes."""
    beside: str = ""
    """A file beside config.json that has the config instead of it."""

    def codes(self, name: str) -> bool:
        """Whether it codes this weight: one that it knows, and that the config does not leave out."""
        left_out = self.config.get("modules_to_not_convert") or self.config.get("ignore") or []
        return bool(self.weights.search(name)) and not any(_names(pattern, name) for pattern in left_out)


def _names(pattern: str, weight: str) -> bool:
    """Whether a pattern of modules that stay plain names this one: a part of the name, or `re:` and an expression."""
    layer = weight.removesuffix(".weight")
    if pattern.startswith("re:"):
        return re.match(pattern.removeprefix("re:"), layer) is not None
    return pattern in layer


_GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False, "lm_head": False}
_GPTQ1 = {**_GPTQ, "checkpoint_format": "gptq"}
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
_FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
_MODELOPT = {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"], "producer": {"name": "modelopt"}}
_FBGEMM = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]}
_BNB4: dict[str, Any] = {
    "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": False, "bnb_4bit_compute_dtype": "float16", "bnb_4bit_quant_storage": "uint8",
    "llm_int8_threshold": 6.0, "llm_int8_has_fp16_weight": False, "llm_int8_skip_modules": None,
}  # fmt: skip
_BNB8 = {**_BNB4, "load_in_4bit": False, "load_in_8bit": True}
_HQQ: dict[str, Any] = {
    "quant_method": "hqq",
    "quant_config": {
        "weight_quant_params": {
            "nbits": 4, "group_size": 64, "axis": 1, "channel_wise": True, "optimize": True, "round_zero": False,
            "view_as_float": False,
        },
        "scale_quant_params": None, "zero_quant_params": None, "offload_meta": False,
    },
    "skip_modules": ["lm_head"],
}  # fmt: skip
_MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": ["self_attn", "mlp.router", "model.embed_tokens", "lm_head"],
}
_EXPERTS = re.compile(r"\.experts\.(gate_up|down)_proj$")
_MLA = ["self_attn"]
_LINEAR_ATTENTION = ["linear_attn"]


def _compressed(
    form: str, bits: int, group: int | None, *, kind: str = "int", strategy: str = "", **more: Any
) -> dict[str, Any]:
    """As llm-compressor publishes it: `format` at the top, and not in each group.

    Args:
        more: further fields of the weights.
    """
    weights = {
        "num_bits": bits,
        "group_size": group,
        "strategy": strategy or ("group" if group else "channel"),
        "symmetric": True,
        "dynamic": False,
        "type": kind,
        **more,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }


def _in_group(config: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """With fields in its group."""
    return {**config, "config_groups": {"group_0": {**config["config_groups"]["group_0"], **fields}}}


def _tokens(kind: str, bits: int = 8, **more: Any) -> dict[str, Any]:
    """Activations that are rounded while they come."""
    return {"num_bits": bits, "strategy": "token", "symmetric": True, "dynamic": True, "type": kind, **more}


_PACKED = _compressed("pack-quantized", 4, 128)
_PACKED_UNSTATED = {name: value for name, value in _PACKED.items() if name != "format"}
_FP8_BLOCKS = _compressed("float-quantized", 8, None, kind="float", strategy="block", block_structure=[BLOCK, BLOCK])
_NVFP4 = _compressed("nvfp4-pack-quantized", 4, 16, kind="float", strategy="tensor_group")

FORMATS: dict[str, Format] = {
    "gptq-4bit": Format(_GPTQ1, integers.gptq),
    "gptq-4bit-unstated": Format(_GPTQ, integers.gptq),
    "gptq-4bit-beside": Format(_GPTQ, integers.gptq, beside="quantize_config.json"),
    "gptq-4bit-g32": Format({**_GPTQ1, "group_size": 32}, integers.gptq),
    "gptq-4bit-rows": Format({**_GPTQ1, "group_size": -1}, integers.gptq),
    "gptq-4bit-desc_act": Format({**_GPTQ1, "desc_act": True}, integers.gptq),
    "gptq-4bit-asym": Format({**_GPTQ1, "sym": False}, integers.gptq),
    "gptq-4bit-v2": Format({**_GPTQ1, "checkpoint_format": "gptq_v2"}, integers.gptq),
    "gptq-4bit-experts": Format({**_GPTQ1, "modules_to_not_convert": _MLA}, integers.gptq),
    "gptq-2bit": Format({**_GPTQ1, "bits": 2, "sym": False}, integers.gptq),
    "gptq-8bit": Format({**_GPTQ1, "bits": 8}, integers.gptq),
    "awq-4bit": Format(_AWQ, integers.awq),
    "awq-4bit-GEMM": Format({**_AWQ, "version": "GEMM"}, integers.awq),
    "awq-4bit-unstated": Format({k: v for k, v in _AWQ.items() if k != "version"}, integers.awq),
    "awq-4bit-beside": Format(_AWQ, integers.awq, beside="quant_config.json"),
    "awq-4bit-g64": Format({**_AWQ, "group_size": 64}, integers.awq),
    "awq-4bit-rows": Format({**_AWQ, "group_size": None}, integers.awq),
    "awq-4bit-experts": Format({**_AWQ, "modules_to_not_convert": _MLA}, integers.awq),
    "awq-4bit-softmax": Format({**_AWQ, "modules_to_not_convert": _LINEAR_ATTENTION}, integers.awq),
    "fp8-blocks": Format({**_FP8, "weight_block_size": [BLOCK, BLOCK]}, floats.fp8_blocks),
    "fp8-tensor": Format(_FP8, floats.fp8_tensor),
    "fp8-static": Format({**_FP8, "activation_scheme": "static"}, floats.fp8_tensor),
    "fbgemm-fp8": Format(_FBGEMM, floats.fbgemm_fp8),
    "modelopt-fp8": Format(_MODELOPT, floats.fp8_tensor),
    "mxfp4": Format(_MXFP4, floats.mxfp4, weights=_EXPERTS),
    "bnb-nf4": Format(_BNB4, floats.bitsandbytes_4bit),
    "bnb-fp4": Format({**_BNB4, "bnb_4bit_quant_type": "fp4"}, floats.bitsandbytes_4bit),
    "bnb-int8": Format(_BNB8, integers.bitsandbytes_int8),
    "hqq-4bit": Format(_HQQ, integers.hqq),
    "compressed-4bit": Format(_PACKED, integers.compressed_packed),
    "compressed-4bit-in-group": Format(
        _in_group(_PACKED_UNSTATED, format="pack-quantized"), integers.compressed_packed
    ),
    "compressed-4bit-twice": Format(_in_group(_PACKED, format="pack-quantized"), integers.compressed_packed),
    "compressed-4bit-g32": Format(_compressed("pack-quantized", 4, 32), integers.compressed_packed),
    "compressed-4bit-asym": Format(_compressed("pack-quantized", 4, 128, symmetric=False), integers.compressed_packed),
    "compressed-4bit-experts": Format(
        {**_PACKED, "ignore": ["lm_head", "re:.*self_attn.*"]}, integers.compressed_packed
    ),
    "compressed-8bit": Format(_compressed("pack-quantized", 8, None), integers.compressed_packed),
    "compressed-int8-a8": Format(
        _in_group(_compressed("int-quantized", 8, None), input_activations=_tokens("int")), integers.compressed_int8
    ),
    "compressed-fp8-a8": Format(
        _in_group(_compressed("float-quantized", 8, None, kind="float"), input_activations=_tokens("float")),
        floats.compressed_fp8,
    ),
    "compressed-fp8-blocks": Format(
        _in_group(_FP8_BLOCKS, input_activations=_tokens("float", strategy="group", group_size=BLOCK)),
        floats.compressed_fp8_blocks,
    ),
    "compressed-nvfp4": Format(_NVFP4, floats.compressed_nvfp4),
}
