"""What the loaders of CTranslate2's converter leave out of a model, told from its config.json (ctranslate2 4.8.5)."""

from collections.abc import Callable
from dataclasses import dataclass

from calibration.backend import Model
from calibration.config_json import ConfigJson

TRIED = frozenset({
    "BloomForCausalLM", "CodeGenForCausalLM", "FalconForCausalLM", "GPT2LMHeadModel", "GPTBigCodeForCausalLM",
    "GPTJForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GemmaForCausalLM", "LlamaForCausalLM",
    "MistralForCausalLM", "OPTForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
})  # fmt: skip
"""Decoders whose scores were compared with those of transformers 5.23.0, on small random models."""

_ENCODER = "its loader converts a model with an encoder (ctranslate2 4.8.5)"

WRONG = {
    "BartForCausalLM": _ENCODER,
    "BertLMHeadModel": _ENCODER,
    "CamembertForCausalLM": _ENCODER,
    "MBartForCausalLM": _ENCODER,
    "MarianForCausalLM": _ENCODER,
    "PegasusForCausalLM": _ENCODER,
    "RobertaForCausalLM": _ENCODER,
    "WhisperForCausalLM": _ENCODER,
    "XLMRobertaForCausalLM": _ENCODER,
    "GPTNeoXForCausalLM": "its loader reads rotary_pct, which transformers 5 does not have (ctranslate2 4.8.5)",
    "PhiForCausalLM": "its loader reads n_layer and lm_head.ln of Phi's former code (ctranslate2 4.8.5)",
    "Phi3ForCausalLM": "its loader reads rotary_emb of a layer, which transformers 5 does not have (ctranslate2 4.8.5)",
}
"""Registered, but what comes out is no decoder, or nothing comes out."""

# By model_type, which chooses the loader.
_GEMMAS = frozenset({"gemma", "gemma2", "gemma3_text"})
_SWISH = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_ROTATION_SCALED = _SWISH
_EVEN_HEADS = frozenset({"llama", "qwen2"})
_WITHOUT_BIAS = frozenset({"gemma", "gemma2"})
_THETA = {"falcon": 1e4, "gemma": 1e4, "gemma2": 1e4, "gemma3_text": 1e6}
_LOCAL_THETA = {"gemma3_text": 1e4}
_SOFT_CAPS: dict[str, dict[str, float | None]] = {
    "gemma2": {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
    "gemma3_text": {"final_logit_softcapping": None, "attn_logit_softcapping": None},
}
"""Caps of scores that no loader reads, and what transformers takes where config.json has no such field."""
_ACTIVATIONS = {
    **dict.fromkeys(_SWISH, ("hidden_act", frozenset({"silu", "swish"}))),
    "falcon": ("activation", frozenset({"gelu"})),
    "gemma": ("hidden_act", frozenset({"gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh"})),
    **dict.fromkeys(
        ("gemma2", "gemma3_text"),
        ("hidden_activation", frozenset({"gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh"})),
    ),
    **dict.fromkeys(
        ("codegen", "gpt2", "gpt_bigcode", "gptj", "opt"),
        (
            "activation_function",
            frozenset({
                "gelu", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu",
                "swish",
            }),
        ),
    ),
}  # fmt: skip
"""The field, and what the loader converts of it: where it reads none, what it takes. `_SUPPORTED_ACTIVATIONS`."""

_TAKEN_EPSILON = 1e-5
_LARGEST_EPSILON = 1e-4
"""The engine divides by the root of a variance and the epsilon that it takes itself. Published models have 1e-5 to
1e-12, which makes no difference beside variances of hidden states."""
_EPSILONS = {
    **dict.fromkeys(("bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gptj"), "layer_norm_epsilon"),
    "gemma3_text": "rms_norm_eps",
}
"""Loaders that do not pass it on; the field's name."""

_UNREAD_FLAGS: dict[str, dict[str, bool]] = {
    "bloom": {"apply_residual_connection_post_layernorm": False},
    # The last one is read and comes out wrong.
    "falcon": {"apply_residual_connection_post_layernorm": False, "new_decoder_architecture": False},
    "gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    "gpt_bigcode": {"scale_attn_weights": True, "multi_query": True},
    "opt": {"layer_norm_elementwise_affine": True},
}
"""Flags that a loader does not read or gets wrong, and what it takes; so does transformers where one is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a limit looks at."""

    model: Model
    config: ConfigJson

    @property
    def loader(self) -> str:
        return self.model.model_type


def limits(model: Model) -> list[str]:
    """`needs X; found Y`, once for each thing that the conversion of a model leaves out."""
    case = _Case(model=model, config=ConfigJson.read(model.folder))
    return [reason for limit in _LIMITS for reason in limit(case)]


def _soft_caps(case: _Case) -> list[str]:
    reasons = []
    for name, left_out in _SOFT_CAPS.get(case.loader, {}).items():
        # null is no cap; where the field is missing, transformers has one.
        cap = case.config.number(name, None if name in case.config.fields else left_out)
        if cap is not None:
            reasons.append(f"needs no {name}, which the conversion leaves out; found {cap:g}")
    return reasons


def _attention_scale(case: _Case) -> list[str]:
    if case.loader not in {"gemma2", "gemma3_text"} or "head_dim" in case.model.unknown:
        return []
    scalar = case.config.number("query_pre_attn_scalar", 256)
    if scalar == case.model.head_dim:
        return []
    return [f"needs query_pre_attn_scalar {case.model.head_dim}, which the engine takes; found {scalar:g}"]


def _head_dim(case: _Case) -> list[str]:
    model = case.model
    if case.loader not in _EVEN_HEADS or model.heads <= 0 or {"head_dim", "hidden_size"} & model.unknown:
        return []
    if model.head_dim * model.heads == model.hidden_size:
        return []
    even = model.hidden_size // model.heads
    return [f"needs head_dim {even} (hidden_size / heads) in {model.architecture}; found {model.head_dim}"]


def _theta(case: _Case) -> list[str]:
    model, reasons = case.model, list[str]()
    taken = _THETA.get(case.loader)
    if taken is not None and model.rope_theta not in (None, taken):
        reasons.append(
            f"needs rope_theta {taken:g}, which the conversion of {model.architecture} takes;"
            f" found {model.rope_theta:g}"
        )
    taken = _LOCAL_THETA.get(case.loader)
    if taken is not None:
        local = case.config.table("rope_parameters").table("sliding_attention").number("rope_theta", taken)
        local = case.config.number("rope_local_base_freq", local)
        if local != taken:
            reasons.append(f"needs rope_local_base_freq {taken:g}, which the conversion takes; found {local:g}")
    return reasons


def _rotation(case: _Case) -> list[str]:
    if case.loader in _ROTATION_SCALED and case.model.rope_type == "dynamic":
        return ["needs rope type default or linear, which the converter has; found dynamic"]
    if case.loader in _ROTATION_SCALED or case.model.rope_type in {"default", "dynamic", "none"}:
        return []
    # What the engine has in no loader is for the rule of rope types.
    if case.model.rope_type != "linear":
        return []
    return [f"needs rope type default, which the conversion of {case.model.architecture} takes; found linear"]


def _activation(case: _Case) -> list[str]:
    name, converted = _ACTIVATIONS.get(case.loader, ("", frozenset()))
    activation = case.config.text(name, None) if name else None
    if activation is None or activation in converted:
        return []
    return [f"needs {name} {' or '.join(sorted(converted))}, which the conversion has; found {activation}"]


def _bias(case: _Case) -> list[str]:
    if case.loader in _WITHOUT_BIAS and case.config.flag("attention_bias"):
        return ["needs attention_bias false, since the conversion leaves biases out; found true"]
    return []


def _epsilon(case: _Case) -> list[str]:
    name = _EPSILONS.get(case.loader)
    epsilon = case.config.number(name, None) if name else None
    if epsilon is None or epsilon <= _LARGEST_EPSILON:
        return []
    return [f"needs {name} {_TAKEN_EPSILON:g}, which the engine takes; found {epsilon:g}"]


def _flags(case: _Case) -> list[str]:
    return [
        f"needs {name} {_word(taken)}, which the conversion takes; found {_word(not taken)}"
        for name, taken in _UNREAD_FLAGS.get(case.loader, {}).items()
        if case.config.fields.get(name) is not None and case.config.flag(name) is not taken
    ]


def _word(flag: bool) -> str:
    return str(flag).lower()


_LIMITS: tuple[Callable[[_Case], list[str]], ...] = (
    _soft_caps,
    _attention_scale,
    _head_dim,
    _theta,
    _rotation,
    _activation,
    _bias,
    _epsilon,
    _flags,
)
