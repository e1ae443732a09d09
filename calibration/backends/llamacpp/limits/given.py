"""What llama.cpp's loader, its graphs or its converter take for given of an architecture, whatever config.json says.

Each fact is of xllamacpp 2026.10.11549, from thirdparty/llama.cpp of its source distribution: src/models/NAME.cpp tells
which tensors are loaded and what is computed, conversion/NAME.py what is written.
"""

from collections.abc import Mapping
from typing import Final

OWN_HEAD: Final = frozenset({
    "ApertusForCausalLM", "DbrxForCausalLM", "DeepseekV4ForCausalLM", "Dots1ForCausalLM", "ExaoneMoeForCausalLM",
    "GPTNeoXForCausalLM", "GptOssForCausalLM", "KimiLinearForCausalLM", "MellumForCausalLM", "MiMoV2FlashForCausalLM",
    "MiniMaxM2ForCausalLM", "NemotronForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoeForCausalLM",
    "PhiForCausalLM", "PhiMoEForCausalLM", "Qwen2MoeForCausalLM", "StableLmForCausalLM",
})  # fmt: skip
"""The tensor output.weight is required; checkpoints with tied embeddings do not store it."""

TIED_HEAD: Final = frozenset({
    "Cohere2ForCausalLM", "CohereForCausalLM", "Gemma2ForCausalLM", "GemmaForCausalLM", "OpenELMForCausalLM",
})  # fmt: skip
"""The embeddings are the head; one of its own is left out or not known."""

GELU: Final = frozenset({"gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh"})
"""One function to ggml, which looks it up in a table of float16."""
_SILU: Final = frozenset({"silu", "swish"})
_RELU2: Final = frozenset({"relu2"})

ACTIVATIONS: Final = {
    **dict.fromkeys((
        "AfmoeForCausalLM", "Cohere2ForCausalLM", "Cohere2MoeForCausalLM", "CohereForCausalLM", "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM", "Dots1ForCausalLM", "Ernie4_5ForCausalLM", "Ernie4_5_MoeForCausalLM",
        "Exaone4ForCausalLM", "FalconH1ForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM", "GlmForCausalLM",
        "GraniteForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeHybridForCausalLM", "GraniteMoeSharedForCausalLM",
        "GraniteSWAForCausalLM", "HunYuanDenseV1ForCausalLM", "HunYuanMoEV1ForCausalLM", "JambaForCausalLM",
        "LlamaForCausalLM", "MiniMaxM2ForCausalLM", "Ministral3ForCausalLM", "MistralForCausalLM", "MixtralForCausalLM",
        "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoForCausalLM", "OlmoeForCausalLM", "Phi3ForCausalLM",
        "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM",
        "Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM",
        "StableLmForCausalLM",
    ), ("hidden_act", _SILU)),
    **dict.fromkeys(("ArceeForCausalLM", "Jais2ForCausalLM", "NemotronForCausalLM"), ("hidden_act", _RELU2)),
    **dict.fromkeys(("GPT2LMHeadModel", "GPTBigCodeForCausalLM"), ("activation_function", GELU)),
    **dict.fromkeys(("GPTNeoXForCausalLM", "PhiForCausalLM", "Starcoder2ForCausalLM"), ("hidden_act", GELU)),
    **dict.fromkeys(
        ("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma4ForCausalLM"), ("hidden_activation", GELU)
    ),
    "FalconForCausalLM": ("activation", GELU),
}  # fmt: skip
"""The field of the activation, and what is computed whatever it says."""

FOUR_TIMES_AS_WIDE: Final = {
    "FalconForCausalLM": "ffn_hidden_size", "GPT2LMHeadModel": "n_inner", "GPTBigCodeForCausalLM": "n_inner",
    "PhiForCausalLM": "intermediate_size",
}  # fmt: skip
"""The field of the feed-forward width, for which four times the hidden size is written."""

HEADS_MAKE_HIDDEN: Final = frozenset({
    "Cohere2ForCausalLM", "CohereForCausalLM", "DbrxForCausalLM", "Exaone4ForCausalLM", "GlmForCausalLM",
    "GraniteForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", "JambaForCausalLM", "Lfm2ForCausalLM",
    "Lfm2MoeForCausalLM", "NemotronForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoForCausalLM",
    "OlmoeForCausalLM", "Phi3ForCausalLM", "PhiForCausalLM", "PhiMoEForCausalLM", "Qwen2ForCausalLM",
    "Qwen2MoeForCausalLM", "StableLmForCausalLM", "Starcoder2ForCausalLM",
})  # fmt: skip
"""Queries are loaded as matrices of the hidden size: heads of another width do not fit."""

AS_MANY_KEY_HEADS: Final = frozenset({"Dots1ForCausalLM", "OlmoeForCausalLM", "PhiForCausalLM"})
"""Keys are loaded as matrices of all heads (src/models/dots1.cpp:34), or their norm as one of them (olmoe.cpp:29)."""

LATENT: Final = frozenset({
    "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "Glm4MoeLiteForCausalLM", "YoutuForCausalLM",
})  # fmt: skip
"""One architecture to llama.cpp (deepseek2)."""

INDEXED: Final = frozenset({"DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"})
"""An indexer chooses which tokens are attended to. Its heads are multiplied with a matrix of at least 64 rows
(src/llama-kv-cache.cpp:341)."""

RECURRENT: Final = {
    **dict.fromkeys(("Lfm2ForCausalLM", "Lfm2MoeForCausalLM"), "conv"),
    **dict.fromkeys(
        ("Qwen3NextForCausalLM", "Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "KimiLinearForCausalLM"),
        "linear_attention",
    ),
}
"""Of hybrids: the kind of layer with a state. Without any the memory of states has no buffer, and ggml aborts
(ggml-backend.cpp:345, GGML_ASSERT(buffer))."""

ROPE_THETA: Final = frozenset({
    "FalconForCausalLM", "GPTNeoXForCausalLM", "Gemma2ForCausalLM", "GemmaForCausalLM", "PhiForCausalLM",
    "StableLmForCausalLM",
})  # fmt: skip
"""rope_theta is left out: llama.cpp takes 10000."""

# "dynamic" is computed as "default", and is the same up to the model's positions. "longrope" is right while prompts and
# context are on one side of the original positions: llama.cpp chooses the factors by the latter.
ROPE_TYPES: Final = frozenset({"default", "dynamic", "linear", "llama3", "longrope", "yarn"})

_PLAIN: Final = frozenset({"default", "dynamic"})
"""`dynamic` is the same as `default` up to the model's positions."""
_BY_BASE: Final = _PLAIN | {"linear", "yarn"}
"""What the converter writes for all that do not say otherwise."""

WRITTEN_ROPE_TYPES: Final = {
    **dict.fromkeys((
        "Cohere2ForCausalLM", "Cohere2MoeForCausalLM", "CohereForCausalLM", "ExaoneMoeForCausalLM", "FalconForCausalLM",
        "FalconH1ForCausalLM", "GPTNeoXForCausalLM", "Gemma2ForCausalLM", "GemmaForCausalLM", "GlmForCausalLM",
        "PhiForCausalLM", "StableLmForCausalLM",
    ), _PLAIN),
    **dict.fromkeys((
        "AfmoeForCausalLM", "ApertusForCausalLM", "ArceeForCausalLM", "Exaone4ForCausalLM", "GraniteSWAForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM", "MixtralForCausalLM", "SmolLM3ForCausalLM",
    ), _BY_BASE | {"llama3"}),
    **dict.fromkeys((
        "Ernie4_5ForCausalLM", "Ernie4_5_MoeForCausalLM", "GptOssForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM",
        "OlmoForCausalLM", "OlmoeForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM", "SeedOssForCausalLM", "Starcoder2ForCausalLM",
    ), _BY_BASE),
    # gguf-py/gguf/constants.py has no ROPE_FREQS among their tensors: the converter ends on "llama3".
    **dict.fromkeys(("GraniteForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"), _BY_BASE),
    "NemotronForCausalLM": _PLAIN | {"linear"},
    "Phi3ForCausalLM": _PLAIN | {"longrope"},
}  # fmt: skip
"""Kinds of rotary position embedding that reach the file."""

_NO_ATTENTION_BIAS: Final = {"attention_bias": (False, False)}
_NO_BIAS: Final = {**_NO_ATTENTION_BIAS, "mlp_bias": (False, False)}

FLAGS: Final[Mapping[str, Mapping[str, tuple[bool, bool]]]] = {
    **dict.fromkeys((
        "ApertusForCausalLM", "Cohere2ForCausalLM", "CohereForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM",
        "GemmaForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoForCausalLM", "OlmoeForCausalLM",
        "Qwen3ForCausalLM", "Qwen3MoeForCausalLM",
    ), _NO_ATTENTION_BIAS),  # that of o_proj is not loaded
    **dict.fromkeys(("ArceeForCausalLM", "SmolLM3ForCausalLM"), _NO_BIAS),
    "AfmoeForCausalLM": {"mup_enabled": (True, False)},
    "FalconForCausalLM": {"alibi": (False, False), "bias": (False, False), "parallel_attn": (True, True)},
    "GPT2LMHeadModel": {"scale_attn_by_inverse_layer_idx": (False, False)},
    "GPTBigCodeForCausalLM": {"multi_query": (True, True)},
    "GPTNeoXForCausalLM": {"attention_bias": (True, True)},
    "MambaForCausalLM": {"use_bias": (False, False), "use_conv_bias": (True, True)},
    "PhiForCausalLM": {"qk_layernorm": (False, False)},
    "PhiMoEForCausalLM": {"attention_bias": (True, False), "lm_head_bias": (True, False)},
    "SeedOssForCausalLM": {"attention_out_bias": (False, False), "mlp_bias": (False, False)},
    "StableLmForCausalLM": {"qk_layernorm": (False, False)},
    "Starcoder2ForCausalLM": {"use_bias": (True, True)},
}  # fmt: skip
"""Of a flag: what is taken for given, and what a config means that lacks it."""

NUMBERS: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "Gemma3nForCausalLM": {"altup_num_inputs": (4, 4)},
    "MambaForCausalLM": {"expand": (2, 2)},
    "OlmoeForCausalLM": {"rms_norm_eps": (1e-5, 1e-5)},
}  # fmt: skip
"""Of a number: what is taken for given, and what a config means that lacks it."""

VOCABULARY_MULTIPLE: Final = {"FalconMambaForCausalLM": 8, "Mamba2ForCausalLM": 16, "MambaForCausalLM": 8}
"""The converter rounds the vocabulary up to a multiple of pad_vocab_size_multiple, by default of this, but not the
embeddings."""

NORMALISED_EXPERTS: Final = {
    "Lfm2MoeForCausalLM": True, "MiMoV2FlashForCausalLM": True, "OlmoeForCausalLM": False, "Qwen2MoeForCausalLM": False,
    "Qwen3MoeForCausalLM": True, "Qwen3NextForCausalLM": True,
}  # fmt: skip
"""Whether llama.cpp normalises the weights of the chosen experts, whatever norm_topk_prob says (left out: False)."""

EXPERTS_ALONE: Final = frozenset({"Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"})
"""gguf-py/gguf/constants.py has no dense feed-forward (FFN_DOWN) among their tensors: the converter ends on one."""

WINDOW_PERIOD: Final = {
    "AfmoeForCausalLM": 4, "Cohere2ForCausalLM": 4, "Gemma2ForCausalLM": 2, "Gemma3ForCausalLM": 6,
    "GptOssForCausalLM": 2,
}  # fmt: skip
"""Architectures whose sliding window is honoured, in all layers but every n-th, whatever layer_types says."""

WINDOWED: Final = frozenset({
    *WINDOW_PERIOD, "cohere2", "cohere2moe", "granite_swa", "olmo2",
    # Of these the file tells which layers have the window.
    "Cohere2MoeForCausalLM", "Exaone4ForCausalLM", "ExaoneMoeForCausalLM", "Gemma3nForCausalLM", "Gemma4ForCausalLM",
    "GraniteMoeSWAForCausalLM", "GraniteSWAForCausalLM", "LagunaForCausalLM", "MellumForCausalLM",
    "MiMoV2FlashForCausalLM", "Olmo3ForCausalLM",
})  # fmt: skip
