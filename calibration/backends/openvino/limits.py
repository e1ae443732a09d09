"""What a trace or paged attention computes wrong or cannot do, told from a model's config, each with cause and source.

Tracing works for nearly every decoder that transformers builds, so no list says which: what is not refused here is a
candidate whose output the correctness check decides. `TRIED` says whose output was found right.
"""

from collections.abc import Callable
from dataclasses import dataclass

from calibration.backend import Model
from calibration.config_json import ConfigJson

TABLE = ("transformers", "models/auto/modeling_auto.py")
"""The tracer's own table of architectures."""

_SUFFIXES = ("ForCausalLM", "LMHeadModel", "GenerationDecoder")

_ENCODERS = frozenset({
    "BertGenerationDecoder", "BertLMHeadModel", "BigBirdForCausalLM", "CamembertForCausalLM", "Data2VecTextForCausalLM",
    "ElectraForCausalLM", "ErnieForCausalLM", "MegatronBertForCausalLM", "RemBertForCausalLM", "RoCBertForCausalLM",
    "RoFormerForCausalLM", "RobertaForCausalLM", "RobertaPreLayerNormForCausalLM", "XLMRobertaForCausalLM",
    "XLMRobertaXLForCausalLM", "XmodForCausalLM",
})  # fmt: skip
"""Encoders, unless their config says is_decoder (transformers 5.23.0)."""

_WRITTEN_OUT = frozenset({
    "BigBirdForCausalLM", "BloomForCausalLM", "CodeGenForCausalLM", "CpmAntForCausalLM", "GPTJForCausalLM",
    "GPTNeoForCausalLM", "GPTNeoXJapaneseForCausalLM", "MegatronBertForCausalLM", "MptForCausalLM", "MvpForCausalLM",
    "ProphetNetForCausalLM", "RemBertForCausalLM", "RoFormerForCausalLM", "TrOCRForCausalLM", "XGLMForCausalLM",
})  # fmt: skip
"""Classes of transformers 5.23.0 whose attention is products and a softmax, whatever attention is asked for."""

_CONVOLVED_ATTENTION = frozenset({"InklingForCausalLM", "Inkling2ForCausalLM"})
"""Classes of transformers 5.23.0 with convolutions over the keys and values of their attention."""

_CONVOLVED = frozenset({"Lfm2ForCausalLM", "Lfm2MoeForCausalLM", "Lfm3ForCausalLM", *_CONVOLVED_ATTENTION})
"""Classes of transformers 5.23.0 that keep keys, values and the last inputs of convolutions, and nothing else."""

_LOOPED_EXPERTS = frozenset({"DbrxForCausalLM", "JetMoeForCausalLM", "LongcatFlashForCausalLM"})
"""Classes of transformers 5.23.0 whose experts `use_experts_implementation` does not know: a loop over those that the
example chose, which the tracer freezes."""

_CACHELESS = frozenset({
    "BltForCausalLM", "OpenAIGPTLMHeadModel", "ReformerModelWithLMHead", "RwkvForCausalLM", "XLMWithLMHeadModel",
    "XLNetLMHeadModel",
})  # fmt: skip
"""Classes of transformers 5.23.0 whose forward takes no past_key_values, or fails to make one: Blt's,
whose config has no num_hidden_layers."""

_ONE_BY_ONE = frozenset({"ProphetNetForCausalLM"})
"""Classes of transformers 5.23.0 that go on from a cache with one token alone: a trace is of several."""

_REARRANGED = frozenset({"DiffLlamaForCausalLM"})
"""Classes of transformers 5.23.0 that join halves of the values between the cache and attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A property of a model that a graph cannot have, or not with paged attention."""

    needs: str
    found: Callable[[Model, ConfigJson], str]
    """What the model has instead; empty: it is within the limit."""
    source: str
    paged: bool = False
    """Of paged attention alone."""


def beyond(model: Model, *, paged: bool) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond."""
    config = ConfigJson.read(model.folder)
    founds = [(limit, limit.found(model, config)) for limit in LIMITS if paged or not limit.paged]
    return [f"needs {limit.needs}; found {found}" for limit, found in founds if found]


def _not_a_decoder(model: Model, config: ConfigJson) -> str:
    if model.remote_code or model.vision or model.architecture.endswith(_SUFFIXES):
        return ""
    return model.architecture


def _encoder(model: Model, config: ConfigJson) -> str:
    return (
        f"{model.architecture} without it" if model.architecture in _ENCODERS and not config.flag("is_decoder") else ""
    )


def _states(model: Model, config: ConfigJson) -> str:
    if model.architecture in _CONVOLVED or not model.state_layers:
        return ""
    return f"{model.state_layers} of {model.layers} layers with another state"


def _compressed_keys(model: Model, config: ConfigJson) -> str:
    """transformers 5 writes the first, what was published before it the second."""
    return next((name for name in ("compress_rates", "compress_ratios") if config.fields.get(name)), "")


def _cacheless(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _CACHELESS else ""


def _counted(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture == "RoFormerForCausalLM" else ""


def _one_by_one(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _ONE_BY_ONE else ""


def _unmasked_window(model: Model, config: ConfigJson) -> str:
    """Moshi's cache drops what lies before the window, and its masks do not: a prompt sees more than the next token."""
    window = config.whole("sliding_window", 0) if model.architecture == "MoshiForCausalLM" else 0
    return f"sliding_window {window}" if 0 < window < (model.max_position or window + 1) else ""


def _looped_experts(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _LOOPED_EXPERTS else ""


def _dropped_keys(model: Model, config: ConfigJson) -> str:
    """Doge masks all but the strongest keys of a long text; up to that length there is nothing to choose."""
    kept = config.whole("keep_window_size", 0)
    return f"keep_window_size {kept}" if 0 < kept < (model.max_position or kept + 1) else ""


def _chosen_keys(model: Model, config: ConfigJson) -> str:
    kept = config.whole("index_topk", 0)
    return f"index_topk {kept}" if 0 < kept < (model.max_position or kept + 1) else ""


def _written_out(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _WRITTEN_OUT else ""


def _soft_cap(model: Model, config: ConfigJson) -> str:
    default = 50.0 if model.architecture in {"Gemma2ForCausalLM", "VaultGemmaForCausalLM"} else None
    given = "attn_logit_softcapping" in config.fields
    cap = config.number("attn_logit_softcapping", None if given else default)
    return f"attn_logit_softcapping {cap:g}" if cap is not None else ""


def _alibi(model: Model, config: ConfigJson) -> str:
    return "alibi" if config.flag("alibi") else ""


def _latents(model: Model, config: ConfigJson) -> str:
    rank = config.whole("kv_lora_rank", 0)
    return f"kv_lora_rank {rank}" if rank else ""


def _rearranged(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _REARRANGED else ""


def _convolved_attention(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _CONVOLVED_ATTENTION else ""


def _value_masks(model: Model, config: ConfigJson) -> str:
    return "keep_window_size" if config.whole("keep_window_size", 0) else ""


def _chunks(model: Model, config: ConfigJson) -> str:
    chunk = config.whole("attention_chunk_size", 0)
    return f"attention_chunk_size {chunk}" if 0 < chunk < (model.max_position or chunk + 1) else ""


def _long_rope(model: Model, config: ConfigJson) -> str:
    if model.rope_type != "longrope":
        return ""
    said = (config, config.table("rope_parameters"), config.table("rope_scaling"))
    original = max(fields.whole("original_max_position_embeddings", 0) for fields in said)
    # A model that was not extended never comes to the long factors.
    return "" if 0 < (model.max_position or 0) <= original else model.rope_type


LIMITS = (
    Limit(
        needs="a decoder that AutoModelForCausalLM loads",
        found=_not_a_decoder,
        source="transformers 5.23.0 models/auto/modeling_auto.py",
    ),
    Limit(needs="is_decoder", found=_encoder, source="transformers 5.23.0 models/*/configuration_*.py"),
    Limit(
        needs="keys, values and inputs of convolutions as its only state",
        found=_states,
        source="transformers 5.23.0 cache_utils.py: layers of linear attention and state space models compute one token"
        " otherwise than several, which a trace freezes",
    ),
    Limit(
        needs="a forward that makes and takes past_key_values",
        found=_cacheless,
        source="transformers 5.23.0 models/openai/modeling_openai.py and others",
    ),
    Limit(
        needs="rotations by positions that a graph can be given",
        found=_counted,
        source="transformers 5.23.0 models/roformer/modeling_roformer.py:424: they are counted from the cache's length",
    ),
    Limit(
        needs="a cache from which several tokens go on",
        found=_one_by_one,
        source="transformers 5.23.0 models/prophetnet/modeling_prophetnet.py: `use_cache` is only supported for"
        " `decoder_input_ids` of length 1",
    ),
    Limit(
        needs="masks of the window that its cache keeps",
        found=_unmasked_window,
        source="transformers 5.23.0 models/moshi/modeling_moshi.py: plain masks, and a cache of windows",
    ),
    Limit(
        needs="keys of tokens in its cache",
        found=_compressed_keys,
        source="transformers 5.23.0 models/deepseek_v4/modeling_deepseek_v4.py: keys of several tokens become one, by"
        " branches on how many there are",
    ),
    Limit(
        needs="experts that the registry of transformers chooses",
        found=_looped_experts,
        source="transformers 5.23.0 integrations/moe.py",
    ),
    Limit(
        needs="attention to all keys, or to those of a window",
        found=_dropped_keys,
        source="transformers 5.23.0 models/doge/modeling_doge.py, prepare_dynamic_mask: a branch on the number of keys",
    ),
    Limit(
        needs="attention to all keys, or to those of a window",
        found=_chosen_keys,
        source="transformers 5.23.0 models/deepseek_v32/modeling_deepseek_v32.py: an indexer chooses the keys",
    ),
    Limit(
        needs="positions by rotation or by embedding",
        found=_alibi,
        source="transformers 5.23.0 models/falcon/modeling_falcon.py, build_alibi_tensor: products in bfloat16, which"
        " openvino 2026.4.1 computes in float32 (0.03 nats after 96 tokens)",
    ),
    Limit(
        paged=True,
        needs="scaled_dot_product_attention for paged attention",
        found=_written_out,
        source="openvino 2026.4.1 SDPAToPagedAttention: No ScaledDotProductAttention operation observed in the graph",
    ),
    Limit(
        paged=True,
        needs="attention without soft caps for paged attention",
        found=_soft_cap,
        source="openvino 2026.4.1 PagedAttentionExtension has no cap",
    ),
    Limit(
        paged=True,
        needs="keys and values in the cache for paged attention",
        found=_latents,
        source="transformers 5.23.0 models/deepseek_v3/modeling_deepseek_v3.py: latents are cached, and expanded when"
        " they are read",
    ),
    Limit(
        paged=True,
        needs="attention to what the cache holds for paged attention",
        found=_rearranged,
        source="openvino 2026.4.1 SDPAToPagedAttention: Model references undeclared parameters",
    ),
    Limit(
        paged=True,
        needs="keys and values as they were projected for paged attention",
        found=_convolved_attention,
        source="openvino 2026.4.1 SDPAToPagedAttention: wrong output of a small model that is right without it",
    ),
    Limit(
        paged=True,
        needs="masks of positions alone for paged attention",
        found=_value_masks,
        source="transformers 5.23.0 models/doge/modeling_doge.py: what is added to the scores depends on the values",
    ),
    Limit(
        paged=True,
        needs="causal masks, or windows, for paged attention",
        found=_chunks,
        source="openvino 2026.4.1 state_management_pattern.cpp: a mask that it does not know it takes for a causal one",
    ),
    Limit(
        paged=True,
        needs="frequencies that do not depend on the text's length for paged attention",
        found=_long_rope,
        source="transformers 5.23.0 modeling_rope_utils.py, longrope_frequency_update: the longest sequence decides for"
        " all, and paged attention computes sequences of many requests together",
    ),
)

TRIED = frozenset({
    "AXK1ForCausalLM", "AXK2ForCausalLM", "AfmoeForCausalLM", "ApertusForCausalLM", "ArceeForCausalLM",
    "AriaTextForCausalLM", "BartForCausalLM", "BeamForCausalLM", "BertGenerationDecoder", "BertLMHeadModel",
    "BigBirdForCausalLM", "BigBirdPegasusForCausalLM", "BioGptForCausalLM", "BitNetForCausalLM",
    "BlenderbotForCausalLM", "BlenderbotSmallForCausalLM", "BloomForCausalLM", "CTRLLMHeadModel",
    "CamembertForCausalLM", "CodeGenForCausalLM", "Cohere2ForCausalLM", "Cohere2MoeForCausalLM", "CohereForCausalLM",
    "CwmForCausalLM", "Data2VecTextForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM",
    "DiffLlamaForCausalLM", "DogeForCausalLM", "Dots1ForCausalLM", "ElectraForCausalLM", "Ernie4_5ForCausalLM",
    "Ernie4_5_MoeForCausalLM", "ErnieForCausalLM", "Exaone4ForCausalLM", "ExaoneMoeForCausalLM", "FalconForCausalLM",
    "FlexOlmoForCausalLM", "FlintForCausalLM", "GPT2LMHeadModel", "GPTBigCodeForCausalLM", "GPTJForCausalLM",
    "GPTNeoForCausalLM", "GPTNeoXForCausalLM", "GPTNeoXJapaneseForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM",
    "Gemma3nForCausalLM", "Gemma4ForCausalLM", "Gemma4UnifiedForCausalLM", "GemmaForCausalLM", "Glm4ForCausalLM",
    "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM", "GlmForCausalLM", "GptOssForCausalLM", "GraniteForCausalLM",
    "GraniteMoeForCausalLM", "GraniteMoeSWAForCausalLM", "GraniteMoeSharedForCausalLM", "GraniteSWAForCausalLM",
    "HYV3ForCausalLM", "HYV4ForCausalLM", "HeliumForCausalLM", "HrmTextForCausalLM", "HunYuanDenseV1ForCausalLM",
    "HunYuanMoEV1ForCausalLM", "HyperCLOVAXForCausalLM", "InklingForCausalLM", "Jais2ForCausalLM",
    "Kolibri1ForCausalLM", "LagunaForCausalLM", "Lfm2ForCausalLM", "Lfm2MoeForCausalLM", "Lfm3ForCausalLM",
    "Llama4ForCausalLM", "LlamaForCausalLM", "MBartForCausalLM", "MarianForCausalLM", "MegatronBertForCausalLM",
    "MellumForCausalLM", "MiMoV2FlashForCausalLM", "MiniCPM3ForCausalLM", "MiniMaxM2ForCausalLM",
    "MiniMaxM3VLForCausalLM", "Ministral3ForCausalLM", "MinistralForCausalLM", "MistralForCausalLM",
    "MixtralForCausalLM", "ModernBertDecoderForCausalLM", "MptForCausalLM", "NanoChatForCausalLM",
    "NemotronForCausalLM", "OPTForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoForCausalLM",
    "OlmoeForCausalLM", "PegasusForCausalLM", "PersimmonForCausalLM", "Phi3ForCausalLM", "Phi4MultimodalForCausalLM",
    "PhiForCausalLM", "PhimoeForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM", "SolarOpenForCausalLM", "StableLmForCausalLM",
    "Starcoder2ForCausalLM", "VaultGemmaForCausalLM", "XGLMForCausalLM", "YoutuForCausalLM",
})  # fmt: skip
"""A small random model of each agreed with transformers 5.23.0, by openvino-genai 2026.4.1."""
