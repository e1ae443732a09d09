"""What a trace computes wrong or cannot do, told from a model's config, each with cause and source.

Tracing works for nearly every decoder that transformers builds, so no list says which: what is not refused here is a
candidate whose output the correctness check decides. `TRIED` of architectures.py says whose output was found right.
"""

from calibration.backend import Model
from calibration.backends.openvino.limit import Limit
from calibration.config_json import ConfigJson

CONVOLVED_ATTENTION = frozenset({"InklingForCausalLM", "Inkling2ForCausalLM"})
"""Classes of transformers 5.23.0 with convolutions over the keys and values of their attention."""

_ENCODERS = frozenset({
    "BertGenerationDecoder", "BertLMHeadModel", "BigBirdForCausalLM", "CamembertForCausalLM", "Data2VecTextForCausalLM",
    "ElectraForCausalLM", "ErnieForCausalLM", "MegatronBertForCausalLM", "RemBertForCausalLM", "RoCBertForCausalLM",
    "RoFormerForCausalLM", "RobertaForCausalLM", "RobertaPreLayerNormForCausalLM", "XLMRobertaForCausalLM",
    "XLMRobertaXLForCausalLM", "XmodForCausalLM",
})  # fmt: skip
"""Encoders, unless their config says is_decoder (transformers 5.23.0)."""

_CONVOLVED = frozenset({"Lfm2ForCausalLM", "Lfm2MoeForCausalLM", "Lfm3ForCausalLM", *CONVOLVED_ATTENTION})
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


def _widened_mask(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture == "GitForCausalLM" else ""


def _looped_experts(model: Model, config: ConfigJson) -> str:
    return model.architecture if model.architecture in _LOOPED_EXPERTS else ""


def _dropped_keys(model: Model, config: ConfigJson) -> str:
    """Doge masks all but the strongest keys of a long text; up to that length there is nothing to choose."""
    kept = config.whole("keep_window_size", 0)
    return f"keep_window_size {kept}" if 0 < kept < (model.max_position or kept + 1) else ""


def _chosen_keys(model: Model, config: ConfigJson) -> str:
    kept = config.whole("index_topk", 0)
    return f"index_topk {kept}" if 0 < kept < (model.max_position or kept + 1) else ""


GRAPH_LIMITS = (
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
        needs="a mask as wide as the text",
        found=_widened_mask,
        source="transformers 5.23.0 models/git/modeling_git.py:839: the mask of a text that goes on is widened by an"
        " image's tokens, though none were cached",
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
)
