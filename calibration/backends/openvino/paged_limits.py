"""What paged attention computes wrong or cannot do, of what a graph can: told from a config, each with its source."""

from calibration.backend import Model
from calibration.backends.openvino.graph_limits import CONVOLVED_ATTENTION
from calibration.backends.openvino.limit import Limit
from calibration.config_json import ConfigJson

_WRITTEN_OUT = frozenset({
    "BigBirdForCausalLM", "BloomForCausalLM", "CodeGenForCausalLM", "CpmAntForCausalLM", "GPTJForCausalLM",
    "GPTNeoForCausalLM", "GPTNeoXJapaneseForCausalLM", "MegatronBertForCausalLM", "MptForCausalLM", "MvpForCausalLM",
    "ProphetNetForCausalLM", "RemBertForCausalLM", "RoFormerForCausalLM", "TrOCRForCausalLM", "XGLMForCausalLM",
})  # fmt: skip
"""Classes of transformers 5.23.0 whose attention is products and a softmax, whatever attention is asked for."""

_BLOCKS_IN_MASKS = frozenset({"Gemma4UnifiedForConditionalGeneration"})
"""Classes of transformers 5.23.0 that put the blocks of images into their masks where there is no image, too."""

_CAPPED = frozenset({"Gemma2ForCausalLM", "VaultGemmaForCausalLM"})
"""Classes of transformers 5.23.0 that cap the scores of their attention; Gemma 3 has the field and does not read it."""

_REARRANGED = frozenset({"DiffLlamaForCausalLM"})
"""Classes of transformers 5.23.0 that join halves of the values between the cache and attention."""


def _written_out(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _WRITTEN_OUT else ""


def _soft_cap(model: Model, config: ConfigJson) -> str:
    if model.architecture not in _CAPPED:
        return ""
    given = "attn_logit_softcapping" in config.fields
    cap = config.number("attn_logit_softcapping", None if given else 50.0)
    return f"attn_logit_softcapping {cap:g}" if cap is not None else ""


def _latents(model: Model, config: ConfigJson) -> str:
    rank = config.whole("kv_lora_rank", 0)
    return f"kv_lora_rank {rank}" if rank else ""


def _rearranged(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _REARRANGED else ""


def _convolved_attention(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in CONVOLVED_ATTENTION else ""


def _value_masks(model: Model, config: ConfigJson) -> str:
    return "keep_window_size" if config.whole("keep_window_size", 0) else ""


def _chunks(model: Model, config: ConfigJson) -> str:
    chunk = config.whole("attention_chunk_size", 0)
    return f"attention_chunk_size {chunk}" if 0 < chunk < (model.max_position or chunk + 1) else ""


def _seen_blocks(model: Model, config: ConfigJson) -> str:
    """Where blocks of an image stand in the mask of a text, too; without a window it counts as the causal one."""
    window = config.whole("sliding_window", 0)
    if model.architecture not in _BLOCKS_IN_MASKS or not 0 < window < (model.max_position or window + 1):
        return ""
    given = config.text("use_bidirectional_attention", "")
    return f"use_bidirectional_attention {given}" if given == "vision" else ""


def _long_rope(model: Model, config: ConfigJson) -> str:
    if model.rope_type != "longrope":
        return ""
    said = (config, config.table("rope_parameters"), config.table("rope_scaling"))
    original = max(fields.whole("original_max_position_embeddings", 0) for fields in said)
    # A model that was not extended never comes to the long factors.
    return "" if 0 < (model.max_position or 0) <= original else model.rope_type


PAGED_LIMITS = (
    Limit(
        needs="scaled_dot_product_attention for paged attention",
        found=_written_out,
        source="openvino 2026.4.1 SDPAToPagedAttention: No ScaledDotProductAttention operation observed in the graph",
    ),
    Limit(
        needs="attention without soft caps for paged attention",
        found=_soft_cap,
        source="openvino 2026.4.1 PagedAttentionExtension has no cap",
    ),
    Limit(
        needs="keys and values in the cache for paged attention",
        found=_latents,
        source="transformers 5.23.0 models/deepseek_v3/modeling_deepseek_v3.py: latents are cached, and expanded when"
        " they are read",
    ),
    Limit(
        needs="attention to what the cache holds for paged attention",
        found=_rearranged,
        source="openvino 2026.4.1 SDPAToPagedAttention: Model references undeclared parameters",
    ),
    Limit(
        needs="keys and values as they were projected for paged attention",
        found=_convolved_attention,
        source="openvino 2026.4.1 SDPAToPagedAttention: wrong output of a small model that is right without it",
    ),
    Limit(
        needs="masks of positions alone for paged attention",
        found=_value_masks,
        source="transformers 5.23.0 models/doge/modeling_doge.py: what is added to the scores depends on the values",
    ),
    Limit(
        needs="causal masks, or windows, for paged attention",
        found=_chunks,
        source="openvino 2026.4.1 state_management_pattern.cpp: a mask that it does not know it takes for a causal one",
    ),
    Limit(
        needs="causal masks, or windows, for paged attention",
        found=_seen_blocks,
        source="transformers 5.23.0 models/gemma4_unified/modeling_gemma4_unified.py:1174: a window, or the same"
        " image, is no window to state_management_pattern.cpp of openvino 2026.4.1",
    ),
    Limit(
        needs="frequencies that do not depend on the text's length for paged attention",
        found=_long_rope,
        source="transformers 5.23.0 modeling_rope_utils.py, longrope_frequency_update: the longest sequence decides for"
        " all, and paged attention computes sequences of many requests together",
    ),
)
