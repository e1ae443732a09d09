"""What TurboMind cannot load or computes wrong, told from a model's config and the GPU (lmdeploy 0.18.0)."""

from collections.abc import Callable
from math import isclose

from calibration.backend import Model
from calibration.backends.turbomind.case import INT4, QWEN3_5, Capability, Case, dotted
from calibration.backends.turbomind.quant_limits import quant_limit
from calibration.backends.turbomind.shards import misshapen
from calibration.config_json import ConfigJson, shown, unnamed_ends

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
NO_INT4 = frozenset({"InternS2MobiusForConditionalGeneration", "GptOssForCausalLM"})
"""Their experts are read from a tensor of all of them, which is never quantised in 4 bits."""


def limits(model: Model, capability: Capability) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond."""
    case = Case.of(model, capability)
    return [reason for limit in _LIMITS if (reason := limit(case))]


def shard_limits(model: Model, capability: Capability, ways: int) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond when it is divided among `ways` GPUs."""
    return misshapen(Case.of(model, capability), ways)


def _activation(case: Case) -> str | None:
    activation = case.config.text("hidden_act", "silu")
    # models/*.py pass silu whatever the configuration says; gpt-oss has its own.
    if case.model.architecture == "GptOssForCausalLM" or activation in ("silu", "swish"):
        return None
    return f"needs hidden_act silu; found {activation}"


def _logn_attention(case: Case) -> str | None:
    return "needs attention without use_logn_attn; found true" if case.config.flag("use_logn_attn") else None


def _yarn_factor(case: Case) -> str | None:
    rope = case.config.table("rope_parameters")
    if not rope.fields:
        rope = case.config.table("rope_scaling")
    if (rope.text("rope_type", "") or rope.text("type", "")) != "yarn":
        return None
    factor, original = rope.number("factor", 0), _original_positions(case.config, rope)
    if not factor or not case.model.max_position:
        return None
    # models/utils.py:148-150 replaces the factor.
    used = case.model.max_position / (original or case.model.max_position)
    if isclose(used, factor, rel_tol=1e-6):
        return None
    if not original:
        # transformers fills in max_position_embeddings (modeling_rope_utils.py:804).
        return (
            f"needs original_max_position_embeddings, without which its YaRN factor is 1; found factor {factor:g} alone"
        )
    return (
        f"needs a YaRN factor of max_position_embeddings / original_max_position_embeddings = {used:g}, which it uses"
        f" instead of the model's; found {factor:g}"
    )


def _original_positions(config: ConfigJson, rope: ConfigJson) -> int | float:
    """The field beside rope_parameters goes before the one inside (transformers modeling_rope_utils.py:798-802)."""
    name = "original_max_position_embeddings"
    return config.number(name, 0) or rope.number(name, 0)


def _experts_per_token(case: Case) -> str | None:
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


def _expert_dtype(case: Case) -> str | None:
    model, capability = case.model, case.capability
    if model.experts and model.dtype == "float16" and model.quant.method == "none" and capability == (9, 0):
        return "needs bfloat16 for experts on compute capability 9.0; found float16"  # builders/_base.py:282
    return None


def _gated_delta_net(case: Case) -> str | None:
    model, capability = case.model, case.capability
    if model.architecture not in QWEN3_5:
        return None
    for name in ("linear_key_head_dim", "linear_value_head_dim"):
        if (width := case.config.whole(name, 128)) != 128:
            return f"needs {name} 128; found {width}"
    if capability is None:
        return None
    if capability in ((10, 0), (10, 3), (12, 1)):
        return f"needs a GPU with kernels for linear attention; compute capability {dotted(capability)} has none"
    method = model.quant.method
    # 4-bit weights run in float16 except on 9.0, block fp8 in bfloat16, whatever the checkpoint says.
    in_float16 = capability == (12, 0) and method in INT4
    in_float16 |= model.dtype == "float16" and method in ("none", *INT4)
    if in_float16 and capability in ((9, 0), (12, 0)):
        computed = "float16" if method == "none" else f"{method}, which runs in float16"
        return f"needs bfloat16 for linear attention on compute capability {dotted(capability)}; found {computed}"
    return None


def _head_dim_capability(case: Case) -> str | None:
    head_dim, capability = case.model.head_dim, case.capability
    if case.model.architecture == "Glm4MoeLiteForCausalLM":
        # models/utils.py make_mla_config: the latent and the rope part
        head_dim = case.config.whole("kv_lora_rank", 512) + case.config.whole("qk_rope_head_dim", 64)
        if head_dim != 576:
            return f"needs kv_lora_rank + qk_rope_head_dim = 576; found {head_dim}"
    if head_dim in (192, 576) and capability is not None and capability < (8, 0):
        return f"needs compute capability 8.0 for head_dim {head_dim}; found {dotted(capability)}"
    return None


def _own_lm_head(case: Case) -> str | None:
    model = case.model
    if model.tie_word_embeddings and model.architecture in ("MixtralForCausalLM", "Glm4MoeLiteForCausalLM"):
        return "needs an lm_head of its own in the checkpoint; found tied embeddings"
    return None


def _experts_everywhere(case: Case) -> str | None:
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


def _vision(case: Case) -> str | None:
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


_LIMITS: tuple[Callable[[Case], str | None], ...] = (
    lambda case: unnamed_ends(case.model.folder),  # lmdeploy/tokenizer.py:52-58
    _activation,
    _logn_attention,
    _yarn_factor,
    _experts_per_token,
    _expert_dtype,
    _gated_delta_net,
    _head_dim_capability,
    _own_lm_head,
    _experts_everywhere,
    quant_limit,
    lambda case: next(iter(misshapen(case)), None),
    _vision,
)
