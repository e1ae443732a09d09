"""What llama.cpp knows, and what it or its converter gets wrong, told from a model and its config.json."""

from calibration.backend import Model
from calibration.config_json import ConfigJson

_DECODERS = frozenset({
    "ApertusForCausalLM", "ArceeForCausalLM", "BloomForCausalLM", "Cohere2ForCausalLM", "CohereForCausalLM",
    "Ernie4_5ForCausalLM", "Ernie4_5_MoeForCausalLM", "FalconForCausalLM", "FalconMambaForCausalLM", "GPT2LMHeadModel",
    "GPTBigCodeForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GemmaForCausalLM", "GptOssForCausalLM",
    "GraniteForCausalLM", "GraniteMoeForCausalLM", "Lfm2ForCausalLM", "LlamaForCausalLM", "MPTForCausalLM",
    "Mamba2ForCausalLM", "MambaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "NemotronForCausalLM",
    "Olmo2ForCausalLM", "OlmoForCausalLM", "OlmoeForCausalLM", "Phi3ForCausalLM", "PhiForCausalLM", "Qwen2ForCausalLM",
    "Qwen2MoeForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM",
    "StableLmForCausalLM", "Starcoder2ForCausalLM",
})  # fmt: skip
"""Decoders of the converter's table, each tried as f32 on a small random model against transformers 5.23.0: scores
within 3e-5, or 0.01 where the activation is GELU, which ggml looks up in a table of float16.

Left out although they are in the table: HunYuan and Glm4, on which the converter fails (AttributeError: it is newer
than the `gguf` that it brings), Glm, GPTNeoX, FalconH1 and Qwen3Next, which it does not convert from what transformers
5 reads, and Olmo3 and Exaone4, whose scores are off by 5 at a deviation of 2 where they have a sliding window."""

_IN_FILES = frozenset({
    "apertus", "arcee", "bloom", "cohere2", "command-r", "ernie4_5", "ernie4_5-moe", "falcon", "lfm2", "mamba2", "mpt",
    "nemotron", "olmo", "olmoe", "phi2", "seed_oss", "smollm3", "stablelm", "starcoder",
})  # fmt: skip
"""general.architecture in .gguf files of those decoders that only llama.cpp's own name tells."""

ARCHITECTURES = _DECODERS | _IN_FILES

FORMATS = frozenset({
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q2_k_s", "q3_k_s", "q3_k_m", "q3_k_l",
    "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m",
    "iq3_xxs", "iq3_xs", "iq3_s", "iq3_m", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4", "mixed",
})  # fmt: skip
"""File types of llama.cpp's include/llama.h (enum llama_ftype), each of tensor types that its CPU code computes."""

# "dynamic" is computed as "default", and is the same up to the model's positions. "longrope" is right while prompts and
# context are on one side of the original positions: llama.cpp chooses the factors by the latter.
ROPE_TYPES = frozenset({"default", "dynamic", "linear", "llama3", "longrope", "yarn"})

_ROPE_THETA = frozenset({
    "FalconForCausalLM", "Gemma2ForCausalLM", "GemmaForCausalLM", "PhiForCausalLM", "StableLmForCausalLM",
})  # fmt: skip
"""Architectures whose rope_theta the converter leaves out: llama.cpp takes 10000."""

_NORMALISED_EXPERTS = {"OlmoeForCausalLM": False, "Qwen2MoeForCausalLM": False, "Qwen3MoeForCausalLM": True}
"""Whether llama.cpp normalises the weights of the chosen experts, whatever norm_topk_prob says (left out: False)."""

_WINDOW_PERIOD = {"Cohere2ForCausalLM": 4, "Gemma2ForCausalLM": 2, "Gemma3ForCausalLM": 6, "GptOssForCausalLM": 2}
"""Architectures whose sliding window is honoured, in all layers but every n-th, whatever layer_types says."""

WINDOWED = frozenset({*_WINDOW_PERIOD, "cohere2"})


def limits(model: Model, file_type: str) -> list[str]:
    """`needs X; found Y`, once for each limit that a conversion of `model` to a file of this type is beyond."""
    config = ConfigJson.read(model.folder)
    return [
        *_less_precise(model, file_type),
        *_fixed_rope_theta(model),
        *_experts(model, config),
        *_missing_context(model, config),
        *_attention_scale(model, config),
        *_window_layers(model, config),
    ]


def _less_precise(model: Model, file_type: str) -> list[str]:
    if file_type == "bf16" and model.dtype != "bfloat16":
        return [f"needs a bfloat16 model, or loses precision; found {model.dtype}"]
    # float16 has more digits than bfloat16; what it lacks is range, which weights do not use.
    if file_type == "f16" and model.dtype not in {"float16", "bfloat16"}:
        return [f"needs a 16-bit model, or loses precision; found {model.dtype}"]
    return []


def _fixed_rope_theta(model: Model) -> list[str]:
    name = model.architecture
    if name not in _ROPE_THETA or model.rope_theta in {None, 1e4}:
        return []
    return [f"needs rope_theta 10000, which llama.cpp takes for {name}; found {model.rope_theta:g}"]


def _experts(model: Model, config: ConfigJson) -> list[str]:
    name, reasons = model.architecture, []
    if name in _NORMALISED_EXPERTS:
        normalised, taken = config.flag("norm_topk_prob"), _NORMALISED_EXPERTS[name]
        if normalised is not taken:
            reasons.append(f"needs norm_topk_prob {taken}, which llama.cpp takes for {name}; found {normalised}")
    if name == "Qwen3MoeForCausalLM":
        dense_layers = config.rows("mlp_only_layers") or config.whole("decoder_sparse_step", 1) != 1
        if dense_layers:
            reasons.append("needs experts in every layer to convert; found dense layers among them")
    return reasons


def _missing_context(model: Model, config: ConfigJson) -> list[str]:
    if model.architecture == "GPT2LMHeadModel" and "n_ctx" not in config.fields:
        return ["needs n_ctx in config.json to convert; found none"]
    return []


def _attention_scale(model: Model, config: ConfigJson) -> list[str]:
    # Of the 27B models alone, llama.cpp knows that they scale by hidden_size / heads.
    largest = {"Gemma2ForCausalLM": 46, "Gemma3ForCausalLM": 62}.get(model.architecture)
    if largest is None:
        return []
    needed = model.hidden_size // model.heads if model.layers == largest and model.heads else model.head_dim
    scalar = config.number("query_pre_attn_scalar", 256)
    if scalar == needed:
        return []
    return [f"needs query_pre_attn_scalar {needed}, which llama.cpp takes; found {scalar}"]


def _window_layers(model: Model, config: ConfigJson) -> list[str]:
    period = _WINDOW_PERIOD.get(model.architecture)
    if period is None or not model.sliding_window:
        return []
    kinds = config.rows("layer_types")
    expected = ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(model.layers)]
    if kinds != expected if kinds else config.whole("sliding_window_pattern", period) != period:
        return [f"needs full attention in every layer whose number {period} divides; found other layers"]
    return []
