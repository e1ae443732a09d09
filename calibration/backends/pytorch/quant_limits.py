"""Quantised checkpoints that LMDeploy's PyTorch engine reads wrong, or stops at (lmdeploy 0.18.0)."""

from collections.abc import Callable

from calibration.backends.pytorch.case import Case
from calibration.config_json import shown

READ = ("awq", "smooth_quant", "fp8", "compressed-tensors")
"""pytorch/config.py:855-880"""

WRITTEN = ("num_bits", "group_size", "strategy", "symmetric", "dynamic", "type")
"""Of compressed-tensors' weights: for all of these config.py:33-48 takes no default. Which values, the facts tell."""


def _declared(case: Case) -> str | None:
    """config.py:822-830 looks into config.json alone, and takes the method's name letter by letter."""
    model = case.model
    if model.quant.method not in READ or not case.config.fields:
        return None
    if not case.quant.fields:
        return "needs the format in config.json's quantization_config, which alone is read; found it elsewhere"
    written = case.quant.text("quant_method", "none")
    if written == model.quant.method:
        return None
    return f"needs quant_method {model.quant.method}, so written; found {written}"


def _awq_experts(case: Case) -> str | None:
    model = case.model
    if model.quant.method == "awq" and model.experts:
        return f"needs a dense model for awq; found {model.experts} experts"
    return None


def _awq_layout(case: Case) -> str | None:
    model = case.model
    if model.quant.method != "awq":
        return None
    if "group_size" in case.quant.fields and case.quant.fields["group_size"] is None:
        return "needs a number as quantization_config.group_size, or none at all; found null"  # config.py:858
    if (model.quant.version or "gemm").lower() != "gemm":
        return f"needs awq weights packed for gemm; found {model.quant.version}"  # the version is never read
    group = model.quant.group_size or 128
    # nn/linear/awq.py:153, 355 splits outputs by whole groups, too.
    for what, size in (
        ("hidden size", model.hidden_size),
        ("intermediate size", model.intermediate_size),
        ("heads x head_dim", model.heads * model.head_dim),
        ("kv heads x head_dim", model.kv_heads * model.head_dim),
    ):
        if group > 0 and size % group:
            return f"needs {what} divisible by {group} for awq; found {size}"
    return None


def _compressed_tensors(case: Case) -> str | None:
    if case.model.quant.method != "compressed-tensors":
        return None
    groups = case.quant.table("config_groups").tables()
    if set(groups) != {"group_0"}:
        return f"needs config_groups.group_0 alone; found {shown(list(groups))}"
    group = groups["group_0"]
    targets = group.rows("targets")
    if targets != ["Linear"]:
        return f"needs group_0 to target Linear; found {shown(targets)}"
    if group.table("input_activations").fields or group.table("output_activations").fields:
        return "needs quantized weights alone; found quantized activations"
    if (status := case.quant.text("quantization_status", "none")) != "compressed":
        return f"needs quantization_status compressed; found {status}"
    if case.quant.text("format", "none") == "none":
        return "needs the format in quantization_config itself; found none"
    weights = group.table("weights")
    if missing := [name for name in WRITTEN if weights.fields.get(name) is None]:
        return f"needs {missing[0]} in config_groups.group_0.weights; found none"
    if weights.flag("dynamic") or weights.text("type", "int") != "int":
        return "needs integer weights with static scales; found others"
    return None


QUANT_LIMITS: tuple[Callable[[Case], str | None], ...] = (_declared, _awq_experts, _awq_layout, _compressed_tensors)
