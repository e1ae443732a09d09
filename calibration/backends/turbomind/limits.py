"""What TurboMind cannot load or computes wrong, told from a model's config and the GPU (lmdeploy 0.18.0)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isclose

from calibration.backend import Model
from calibration.config_json import ConfigJson, shown

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a limit looks at."""

    model: Model
    config: ConfigJson
    """config.json as TurboMind's text model sees it: the inner configuration's fields over the outer ones."""
    outer: ConfigJson
    """config.json as it is."""
    capability: Capability
    """Of the GPU; None where it is not known."""


def limits(model: Model, capability: Capability) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond."""
    outer = ConfigJson.read(model.folder)
    case = _Case(model=model, config=_text_model(outer).over(outer), outer=outer, capability=capability)
    return [reason for limit in _LIMITS if (reason := limit(case))]


def _text_model(outer: ConfigJson) -> ConfigJson:
    """The configuration of the language model inside another; empty where there is none."""
    text_config = outer.table("text_config")
    return text_config if text_config.fields else outer.table("llm_config")


def _activation(case: _Case) -> str | None:
    activation = case.config.text("hidden_act", "silu")
    # models/*.py pass silu whatever the configuration says; gpt-oss has its own.
    if case.model.architecture == "GptOssForCausalLM" or activation in ("silu", "swish"):
        return None
    return f"needs hidden_act silu; found {activation}"


def _logn_attention(case: _Case) -> str | None:
    return "needs attention without use_logn_attn; found true" if case.config.flag("use_logn_attn") else None


def _yarn_factor(case: _Case) -> str | None:
    rope = case.config.table("rope_parameters")
    if not rope.fields:
        rope = case.config.table("rope_scaling")
    if (rope.text("rope_type", "") or rope.text("type", "")) != "yarn":
        return None
    factor, original = rope.number("factor", 0), rope.number("original_max_position_embeddings", 0)
    if not factor or not original:
        return None
    used = case.model.max_position / original  # models/utils.py:148-150 replaces the factor
    if isclose(used, factor, rel_tol=1e-6):
        return None
    return (
        f"needs a YaRN factor of max_position_embeddings / original_max_position_embeddings = {used:g}, which it uses"
        f" instead of the model's; found {factor:g}"
    )


def _experts_per_token(case: _Case) -> str | None:
    model = case.model
    if not model.experts or "experts_per_token" in model.unknown:
        return None
    if model.architecture == "Glm4MoeLiteForCausalLM":
        if (model.experts, model.experts_per_token) in ((64, 4), (160, 8)):
            return None
        return f"needs 4 of 64 or 8 of 160 experts per token; found {model.experts_per_token} of {model.experts}"
    if model.experts_per_token in (1, 2, 4, 6, 8):
        return None
    return f"needs 1, 2, 4, 6 or 8 experts per token; found {model.experts_per_token}"


def _expert_dtype(case: _Case) -> str | None:
    model, capability = case.model, case.capability
    if model.experts and model.dtype == "float16" and model.quant.method == "none" and capability == (9, 0):
        return "needs bfloat16 for experts on compute capability 9.0; found float16"  # builders/_base.py:282
    return None


def _gated_delta_net(case: _Case) -> str | None:
    model, capability = case.model, case.capability
    if model.architecture not in QWEN3_5:
        return None
    for name in ("linear_key_head_dim", "linear_value_head_dim"):
        if (width := case.config.whole(name, 128)) != 128:
            return f"needs {name} 128; found {width}"
    if capability is None:
        return None
    if capability in ((10, 0), (10, 3), (12, 1)):
        return f"needs a GPU with kernels for linear attention; compute capability {_dotted(capability)} has none"
    method = model.quant.method
    # 4-bit weights run in float16 except on 9.0, block fp8 in bfloat16, whatever the checkpoint says.
    in_float16 = capability == (12, 0) and method in INT4
    in_float16 |= model.dtype == "float16" and method in ("none", *INT4)
    if in_float16 and capability in ((9, 0), (12, 0)):
        computed = "float16" if method == "none" else f"{method}, which runs in float16"
        return f"needs bfloat16 for linear attention on compute capability {_dotted(capability)}; found {computed}"
    return None


def _head_dim_capability(case: _Case) -> str | None:
    head_dim, capability = case.model.head_dim, case.capability
    if case.model.architecture == "Glm4MoeLiteForCausalLM":
        # models/utils.py make_mla_config: the latent and the rope part
        head_dim = case.config.whole("kv_lora_rank", 512) + case.config.whole("qk_rope_head_dim", 64)
        if head_dim != 576:
            return f"needs kv_lora_rank + qk_rope_head_dim = 576; found {head_dim}"
    if head_dim in (192, 576) and capability is not None and capability < (8, 0):
        return f"needs compute capability 8.0 for head_dim {head_dim}; found {_dotted(capability)}"
    return None


def _own_lm_head(case: _Case) -> str | None:
    model = case.model
    if model.tie_word_embeddings and model.architecture in ("MixtralForCausalLM", "Glm4MoeLiteForCausalLM"):
        return "needs an lm_head of its own in the checkpoint; found tied embeddings"
    return None


def _experts_everywhere(case: _Case) -> str | None:
    name = case.model.architecture
    if name not in ("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"):
        return None
    step = case.config.whole("decoder_sparse_step", 1)
    if step != 1:
        return f"needs experts in every layer (decoder_sparse_step 1); found {step}"
    dense_layers = case.config.rows("mlp_only_layers")
    if name == "Qwen2MoeForCausalLM" and dense_layers:
        return f"needs experts in every layer; found dense layers {shown(dense_layers)}"
    return None


def _quant_details(case: _Case) -> str | None:
    """What the readers of weight_format.py ignore, and so get wrong."""
    quant, method = case.config.table("quantization_config"), case.model.quant.method
    if method == "gptq":
        layout = quant.text("checkpoint_format", "") or quant.text("format", "") or "gptq"
        if layout != "gptq":
            return f"needs checkpoint_format gptq; found {layout}"
    if method == "fp8" and (element := quant.text("fmt", "e4m3")) != "e4m3":
        return f"needs fp8 weights in e4m3; found {element}"
    if method != "compressed-tensors":
        return None
    groups = quant.table("config_groups").tables()
    if len(groups) > 1:
        return f"needs one config group; found {len(groups)}"
    for group in groups.values():
        order = group.table("weights").fields.get("actorder")
        if order in ("group", "dynamic", True):
            return f"needs weights in their own order; found actorder {order}"
        if group.table("input_activations").fields:
            return "needs quantized weights alone; found quantized activations"
    return None


def _fp8_blocks(case: _Case) -> str | None:
    model, capability = case.model, case.capability
    if model.quant.method != "fp8":
        return None
    inner = model.expert_intermediate_size if model.experts else model.intermediate_size
    sizes = (("a hidden size", model.hidden_size), ("an intermediate size", inner))
    for what, size in ((what, size) for what, size in sizes if size):  # 0: the config does not say
        if size % 128:
            return f"needs {what} divisible by 128 for fp8 blocks; found {size}"
        if capability == (9, 0) and size < 256:
            return f"needs {what} of 256 or more for fp8 on compute capability 9.0; found {size}"
    # models/utils.py reorder_rotary_emb takes the scales of narrower heads in pairs.
    if model.head_dim == 64 and (model.heads % 4 or model.kv_heads % 4):
        return f"needs heads divisible by 4 for fp8 blocks and head_dim 64; found {model.heads} and {model.kv_heads}"
    return None


def _alignment(case: _Case) -> str | None:
    """builders/_base.py:303-312: the constraints that the library answers; intermediate sizes are padded."""
    model, capability = case.model, case.capability
    align = 8
    if model.quant.method in INT4:
        align = max(model.quant.group_size or 128, 64 if capability == (9, 0) else 1)
    if model.hidden_size % align:
        return f"needs a hidden size divisible by {align}; found {model.hidden_size}"
    return None


def _vision(case: _Case) -> str | None:
    name = case.model.architecture
    vision = case.outer.table("vision_config")
    if name == "Glm4MoeLiteForCausalLM" and vision.fields:
        return "needs Glm4MoeLiteForCausalLM without a vision part; found vision_config"
    if name in INTERNVL:
        llm_config = case.outer.table("llm_config")
        inner = llm_config if llm_config.fields else case.outer.table("text_config")
        language_model = next(iter(inner.texts("architectures")), "none")
        if language_model not in ARCHITECTURES:
            return f"needs an inner language model that TurboMind knows; found {language_model}"
        version = case.outer.text("ps_version", "none")
        if name == "InternVLChatModel" and version != "v2":
            return f"needs ps_version v2; found {version}"
    known = (64, 72) if name in QWEN3_5 else (64, 80) if name.startswith("Qwen2") else ()
    if not known:
        return None
    width = vision.whole("embed_dim", 0) or vision.whole("hidden_size", 0)
    heads = vision.whole("num_heads", 0)
    if width and heads and width // heads not in known:
        return f"needs a vision head_dim of {known[0]} or {known[1]}; found {width // heads}"
    return None


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


_LIMITS: tuple[Callable[[_Case], str | None], ...] = (
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
