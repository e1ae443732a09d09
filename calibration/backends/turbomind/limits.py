"""What TurboMind cannot load or computes wrong, told from a model's config (lmdeploy 0.18.0)."""

import json
from collections.abc import Callable, Mapping
from math import isclose
from pathlib import Path
from typing import Any, cast

Config = Mapping[str, Any]
Capability = tuple[int, int] | None

QWEN3_5 = frozenset(
    {
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "InternS2PreviewForConditionalGeneration",
        "InternS2MobiusForConditionalGeneration",
    }
)
INTERNVL = frozenset({"InternVLChatModel", "InternVLForConditionalGeneration", "InternS1ForConditionalGeneration"})
ARCHITECTURES = (
    QWEN3_5
    | INTERNVL
    | {
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "LlamaForCausalLM",
        "InternLM2ForCausalLM",
        "InternLM3ForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GptOssForCausalLM",
        "MixtralForCausalLM",
    }
)
NO_INT4 = (QWEN3_5 - {"Qwen3_5ForConditionalGeneration"}) | {"GptOssForCausalLM", "Glm4MoeLiteForCausalLM"}
"""Their experts are packed in a tensor of all, or MLA does not take int4."""
INT4 = ("awq", "gptq", "compressed-tensors")


def limits(model: Any, capability: Capability) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond.

    Args:
        model: selector.model.spec.ModelSpec.
        capability: of the GPU; None where it is not known.
    """
    config = _config(model)
    return [reason for rule in _RULES if (reason := rule(model, config, capability))]


def _config(model: Any) -> dict[str, Any]:
    """config.json as TurboMind's text model sees it: the inner configuration's fields over the outer ones."""
    path = Path(model.folder)
    try:
        raw = json.loads((path / "config.json" if path.is_dir() else path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    inner = raw.get("text_config") or raw.get("llm_config") or {}
    return {**raw, **inner, "outer": raw}


def _activation(model: Any, config: Config, capability: Capability) -> str | None:
    found = config.get("hidden_act", "silu")
    # models/*.py pass silu whatever the configuration says; gpt-oss has its own.
    if model.architecture == "GptOssForCausalLM" or found in ("silu", "swish"):
        return None
    return f"needs hidden_act silu; found {found}"


def _logn_attention(model: Any, config: Config, capability: Capability) -> str | None:
    return "needs attention without use_logn_attn; found true" if config.get("use_logn_attn") else None


def _yarn_factor(model: Any, config: Config, capability: Capability) -> str | None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    if (rope.get("rope_type") or rope.get("type")) != "yarn" or not factor or not original:
        return None
    used = model.max_position / original  # models/utils.py:148-150 replaces the factor
    if isclose(used, factor, rel_tol=1e-6):
        return None
    return (
        f"needs a YaRN factor of max_position_embeddings / original_max_position_embeddings = {used:g}, which it uses"
        f" instead of the model's; found {factor:g}"
    )


def _experts_per_token(model: Any, config: Config, capability: Capability) -> str | None:
    if not model.experts:
        return None
    if model.architecture == "Glm4MoeLiteForCausalLM":
        if (model.experts, model.experts_per_token) in ((64, 4), (160, 8)):
            return None
        return f"needs 4 of 64 or 8 of 160 experts per token; found {model.experts_per_token} of {model.experts}"
    if model.experts_per_token in (1, 2, 4, 6, 8):
        return None
    return f"needs 1, 2, 4, 6 or 8 experts per token; found {model.experts_per_token}"


def _expert_dtype(model: Any, config: Config, capability: Capability) -> str | None:
    if model.experts and model.dtype == "float16" and model.quant.method == "none" and capability == (9, 0):
        return "needs bfloat16 for experts on compute capability 9.0; found float16"  # builders/_base.py:282
    return None


def _gated_delta_net(model: Any, config: Config, capability: Capability) -> str | None:
    if model.architecture not in QWEN3_5:
        return None
    for name in ("linear_key_head_dim", "linear_value_head_dim"):
        if config.get(name, 128) != 128:
            return f"needs {name} 128; found {config[name]}"
    if capability in ((10, 0), (10, 3), (12, 1)):
        return f"needs kernels for linear attention, which compute capability {_dotted(capability)} has none of"
    method = model.quant.method
    # 4-bit weights run in float16 except on 9.0, block fp8 in bfloat16, whatever the checkpoint says.
    in_float16 = capability == (12, 0) and method in INT4
    in_float16 |= model.dtype == "float16" and method in ("none", *INT4)
    if in_float16 and capability in ((9, 0), (12, 0)):
        found = "float16" if method == "none" else f"{method}, which runs in float16"
        return f"needs bfloat16 for linear attention on compute capability {_dotted(capability)}; found {found}"
    return None


def _head_dim_capability(model: Any, config: Config, capability: Capability) -> str | None:
    head_dim = model.head_dim
    if model.architecture == "Glm4MoeLiteForCausalLM":  # models/utils.py make_mla_config: the latent and the rope part
        head_dim = config.get("kv_lora_rank", 512) + config.get("qk_rope_head_dim", 64)
        if head_dim != 576:
            return f"needs kv_lora_rank + qk_rope_head_dim = 576; found {head_dim}"
    if head_dim in (192, 576) and capability is not None and capability < (8, 0):
        return f"needs compute capability 8.0 for head_dim {head_dim}; found {_dotted(capability)}"
    return None


def _own_lm_head(model: Any, config: Config, capability: Capability) -> str | None:
    if model.tie_word_embeddings and model.architecture in ("MixtralForCausalLM", "Glm4MoeLiteForCausalLM"):
        return "needs an lm_head of its own in the checkpoint; found tied embeddings"
    return None


def _experts_everywhere(model: Any, config: Config, capability: Capability) -> str | None:
    step = config.get("decoder_sparse_step", 1)
    if model.architecture in ("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM") and step != 1:
        return f"needs experts in every layer (decoder_sparse_step 1); found {step}"
    if model.architecture == "Qwen2MoeForCausalLM" and config.get("mlp_only_layers"):
        return f"needs experts in every layer; found dense layers {config['mlp_only_layers']}"
    return None


def _quant_details(model: Any, config: Config, capability: Capability) -> str | None:
    """What the readers of weight_format.py ignore, and so get wrong."""
    quant = config.get("quantization_config") or config.get("outer", {}).get("quantization_config") or {}
    if model.quant.method == "gptq":
        layout = quant.get("checkpoint_format") or quant.get("format") or "gptq"
        if layout != "gptq":
            return f"needs checkpoint_format gptq; found {layout}"
    if model.quant.method == "fp8" and quant.get("fmt", "e4m3") != "e4m3":
        return f"needs fp8 weights in e4m3; found {quant['fmt']}"
    if model.quant.method != "compressed-tensors":
        return None
    groups = quant.get("config_groups") or {}
    if len(groups) > 1:
        return f"needs one config group; found {len(groups)}"
    for group in groups.values():
        order = (group.get("weights") or {}).get("actorder")
        if order in ("group", "dynamic", True):
            return f"needs weights in their own order; found actorder {order}"
        if group.get("input_activations"):
            return "needs quantized weights alone; found quantized activations"
    return None


def _fp8_blocks(model: Any, config: Config, capability: Capability) -> str | None:
    if model.quant.method != "fp8":
        return None
    inner = model.expert_intermediate_size if model.experts else model.intermediate_size
    for what, size in (("a hidden size", model.hidden_size), ("an intermediate size", inner)):
        if size % 128:
            return f"needs {what} divisible by 128 for fp8 blocks; found {size}"
        if capability == (9, 0) and size < 256:
            return f"needs {what} of 256 or more for fp8 on compute capability 9.0; found {size}"
    # models/utils.py reorder_rotary_emb takes the scales of narrower heads in pairs.
    if model.head_dim == 64 and (model.heads % 4 or model.kv_heads % 4):
        return f"needs heads in fours for fp8 blocks and head_dim 64; found {model.heads} and {model.kv_heads}"
    return None


def _alignment(model: Any, config: Config, capability: Capability) -> str | None:
    """builders/_base.py:303-312: the constraints that the library answers; intermediate sizes are padded."""
    align = 8
    if model.quant.method in INT4:
        align = max(model.quant.group_size or 128, 64 if capability == (9, 0) else 1)
    if model.hidden_size % align:
        return f"needs a hidden size divisible by {align}; found {model.hidden_size}"
    return None


def _vision(model: Any, config: Config, capability: Capability) -> str | None:
    outer = config.get("outer", {})
    vision = outer.get("vision_config") or {}
    if model.architecture == "Glm4MoeLiteForCausalLM" and vision:
        return "needs Glm4MoeLiteForCausalLM without a vision part; found vision_config"
    if model.architecture in INTERNVL:
        inner = ((outer.get("llm_config") or outer.get("text_config") or {}).get("architectures") or ["none"])[0]
        if inner not in ARCHITECTURES:
            return f"needs an inner language model it knows; found {inner}"
        if model.architecture == "InternVLChatModel" and outer.get("ps_version") != "v2":
            return f"needs ps_version v2; found {outer.get('ps_version')}"
    width, heads = vision.get("embed_dim") or vision.get("hidden_size"), vision.get("num_heads")
    known = (64, 72) if model.architecture in QWEN3_5 else (64, 80) if model.architecture.startswith("Qwen2") else ()
    if known and width and heads and width // heads not in known:
        return f"needs a vision head_dim of {known[0]} or {known[1]}; found {width // heads}"
    return None


def _dotted(capability: Capability) -> str:
    return "{}.{}".format(*cast("tuple[int, int]", capability))


_RULES: tuple[Callable[[Any, Config, Capability], str | None], ...] = (
    _activation,
    _logn_attention,
    _yarn_factor,
    _experts_per_token,
    _expert_dtype,
    _gated_delta_net,
    _head_dim_capability,
    _own_lm_head,
    _experts_everywhere,
    _quant_details,
    _fp8_blocks,
    _alignment,
    _vision,
)
