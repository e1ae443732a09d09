"""What TurboMind's readers of quantised checkpoints cannot read, or read wrong (lmdeploy 0.18.0)."""

from collections.abc import Callable, Sequence

from calibration.backends.turbomind.case import QWEN3_5, Case
from calibration.backends.turbomind.tensors import fused_inputs, quantised_modules
from calibration.config_json import shown

READ = ("awq", "gptq", "fp8", "mxfp4", "compressed-tensors")
"""turbomind/converter.py:191-214"""

MLA_FOLDED = ("q_proj", "q_b_proj", "kv_b_proj", "o_proj")
"""builders/mla.py fold_kv_b multiplies their weights with each other as they are."""

SHOWN_MODULES = 3


def quant_limit(case: Case) -> str | None:
    """`needs X; found Y`, for the first limit that a quantised model is beyond."""
    if case.model.quant.method not in READ or not case.outer.fields:
        return None
    return next((reason for limit in _LIMITS if (reason := limit(case))), None)


def _declared(case: Case) -> str | None:
    """Only config.json is read (archs.py:143, converter.py:177), and the method's name letter by letter."""
    method = case.model.quant.method
    if not case.quant.fields:
        return "needs the format in config.json's quantization_config, which alone is read; found it elsewhere"
    written = case.quant.text("quant_method", "none")
    return None if written == method else f"needs quant_method {method}, so written; found {written}"


def _group_size(case: Case) -> str | None:
    if "group_size" in case.quant.fields and case.quant.fields["group_size"] is None:
        return "needs a number as quantization_config.group_size, or none at all; found null"  # converter.py:181
    return None


def _awq_version(case: Case) -> str | None:
    if case.model.quant.method != "awq":
        return None
    written = case.quant.text("version", "none")
    # converter.py:192 compares letter by letter; other packings than gemm the facts refuse.
    if written == "gemm" or written.lower() not in ("gemm", "none"):
        return None
    return f'needs "version": "gemm" in quantization_config, so written; found {written}'


def _gptq_layout(case: Case) -> str | None:
    if case.model.quant.method != "gptq":
        return None
    layout = case.quant.text("checkpoint_format", "") or case.quant.text("format", "") or "gptq"
    return None if layout == "gptq" else f"needs checkpoint_format gptq; found {layout}"


def _fp8_element(case: Case) -> str | None:
    if case.model.quant.method == "fp8" and (element := case.quant.text("fmt", "e4m3")) != "e4m3":
        return f"needs fp8 weights in e4m3; found {element}"
    return None


def _config_group(case: Case) -> str | None:
    """converter.py:200-211 reads config_groups.group_0 and nothing else."""
    if case.model.quant.method != "compressed-tensors":
        return None
    groups = case.quant.table("config_groups").tables()
    if set(groups) != {"group_0"}:
        return f"needs config_groups.group_0 alone; found {shown(list(groups))}"
    group = groups["group_0"]
    # Other packings the facts refuse.
    if "format" not in group.fields and case.quant.text("format", "") == "pack-quantized":
        return "needs format pack-quantized in config_groups.group_0, where it is read; found it beside config_groups"
    weights = group.table("weights")
    if missing := [name for name in ("group_size", "num_bits", "type") if name not in weights.fields]:
        return f"needs {missing[0]} in config_groups.group_0.weights; found none"
    order = weights.fields.get("actorder")
    if order in ("group", "dynamic", True):
        return f"needs weights in their own order; found actorder {order}"
    if group.table("input_activations").fields:
        return "needs quantized weights alone; found quantized activations"
    return None


def _folded_attention(case: Case) -> str | None:
    if case.model.architecture != "Glm4MoeLiteForCausalLM":
        return None
    modules = [f"model.layers.{i}.self_attn.{name}" for i in range(case.model.layers) for name in MLA_FOLDED]
    if quantised := quantised_modules(case, modules):
        return f"needs MLA left plain, since its weights are multiplied with each other; found {_some(quantised)}"
    return None


def _linear_attention(case: Case) -> str | None:
    """GPTQ has no dequant (weight_format.py:85), which layers beside plain ones need."""
    if case.model.architecture not in QWEN3_5 or case.model.quant.method != "gptq":
        return None
    for layer in range(case.model.layers):
        modules = fused_inputs(layer)
        quantised = quantised_modules(case, modules)
        if 0 < len(quantised) < len(modules):
            return f"needs gptq for all of in_proj_qkv, z, b and a or for none; found {_some(quantised)} alone"
    return None


def _some(modules: Sequence[str]) -> str:
    more = len(modules) - SHOWN_MODULES
    return ", ".join(modules[:SHOWN_MODULES]) + (f" and {more} more quantised" if more > 0 else " quantised")


_LIMITS: tuple[Callable[[Case], str | None], ...] = (
    _declared,
    _group_size,
    _awq_version,
    _gptq_layout,
    _fp8_element,
    _config_group,
    _folded_attention,
    _linear_attention,
)
