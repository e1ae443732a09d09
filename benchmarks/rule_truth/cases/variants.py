"""What is changed in a config, one thing a variant, and in which architectures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLAIN = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "olmo2", "granite", "starcoder2", "stablelm")
"""Dense decoders that rotate all or part of a head."""
WINDOWED = ("mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text", "cohere2", "starcoder2", "mixtral", "olmo3")
TIED = (*PLAIN, "gpt2", "opt", "gpt_neox", "falcon", "cohere", "mixtral", "qwen3_moe", "gemma2", "gemma3_text", "bloom")
LONG: dict[str, Any] = {"rope_theta": 10000.0, "original_max_position_embeddings": 64}
HALF = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One change."""

    name: str
    kind: str
    model_types: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    quant: str = ""


def _rope(name: str, model_types: tuple[str, ...] = PLAIN, **parameters: Any) -> Variant:
    return Variant(name=name, kind="rope", model_types=model_types, changes={"rope_parameters": parameters})


def _field(kind: str, name: str, model_types: tuple[str, ...], **changes: Any) -> Variant:
    return Variant(name=name, kind=kind, model_types=model_types, changes=changes)


_MIXTURES = ("qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe", "deepseek_v3", "dots1")
_WIDE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 256,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
}
"""The least shape with groups of 128 weights, and blocks of 256 as in .gguf files."""
_QUANTISED = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "qwen3_moe", "mixtral")
_LATENT: dict[str, Any] = {
    **_WIDE,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 64,
    "v_head_dim": 64,
    "shared_expert_intermediate_size": 256,
}
"""The same with a latent cache."""
_LINEAR: dict[str, Any] = {**_WIDE, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
                           "shared_expert_intermediate_size": 256}  # fmt: skip
_ALTERNATING = ["sliding_attention", "full_attention"] * 2
_ON_GPUS = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text", "granite", "mixtral", "qwen2_moe",
            "qwen3_moe", "gpt_oss", "glm", "starcoder2", "olmo2")  # fmt: skip
_IN_FILES = ("llama", "qwen2", "qwen3", "phi3", "qwen3_moe", "gpt2")

VARIANTS: tuple[Variant, ...] = (
    _field("tied", "tied", TIED, tie_word_embeddings=True),
    _field("tied", "untied", ("gpt2", "opt", "gemma", "gemma2", "gemma3_text", "bloom", "falcon", "cohere", "granite"),
           tie_word_embeddings=False),
    _field("window", "window-16", WINDOWED, sliding_window=16, use_sliding_window=True, max_window_layers=0),
    _field("window", "window-256", WINDOWED, sliding_window=256, use_sliding_window=True, max_window_layers=0),
    _field("window", "no-window", ("mistral", "mixtral", "phi3", "starcoder2", "qwen2", "qwen3"), sliding_window=None,
           use_sliding_window=False),
    _rope("theta-500000", rope_type="default", rope_theta=500000.0),
    _rope("theta-2345", ("mixtral", "gpt_neox", "falcon", "phi", "gemma2", "cohere", *PLAIN),
          rope_type="default", rope_theta=2345.0),
    _rope("linear", rope_type="linear", rope_theta=10000.0, factor=4.0),
    _rope("dynamic", rope_type="dynamic", rope_theta=10000.0, factor=4.0),
    _rope("yarn", rope_type="yarn", factor=8.0, **LONG),
    _rope("yarn-unstated", ("llama", "qwen2", "qwen3"), rope_type="yarn", factor=4.0, rope_theta=10000.0),
    _rope("llama3", rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, **LONG),
    _rope("longrope", rope_type="longrope", factor=8.0, short_factor=[1.0] * 8, long_factor=HALF, **LONG),
    _field("heads", "head_dim-24", PLAIN, head_dim=24),
    _field("heads", "head_dim-32", (*PLAIN, "qwen3_moe", "mixtral"), head_dim=32),
    _field("heads", "one-kv-head", (*PLAIN, "gemma2", "mixtral"), num_key_value_heads=1),
    _field("heads", "all-kv-heads", PLAIN, num_key_value_heads=4),
    _field("shape", "vocab-323", (*PLAIN, "gpt2", "gemma2", "opt"), vocab_size=323),
    _field("shape", "width-72", ("llama", "qwen2", "gpt2", "gemma2", "phi3"), hidden_size=72, head_dim=18),
    _field("shape", "intermediate-100", ("llama", "qwen2", "gemma2", "mixtral"), intermediate_size=100),
    _field("shape", "five-layers", ("gemma2", "gemma3_text", "cohere2", "llama"), num_hidden_layers=5),
    _field("bias", "attention-bias", ("llama", "granite", "olmo2", "qwen3", "gemma", "cohere", "olmo"),
           attention_bias=True),
    _field("bias", "mlp-bias", ("llama", "granite", "helium"), mlp_bias=True),
    _field("bias", "no-bias", ("starcoder2", "gpt_neox"), use_bias=False, attention_bias=False),
    _field("norm", "qk-norm", ("cohere", "stablelm", "persimmon", "phi"), use_qk_norm=True, qk_layernorm=True),
    _field("norm", "clip-qkv", ("olmo", "olmoe", "mpt", "dbrx"), clip_qkv=0.5),
    _field("norm", "eps", ("llama", "qwen2", "gemma2", "phi3"), rms_norm_eps=0.01),
    _field("caps", "no-caps", ("gemma2",), attn_logit_softcapping=None, final_logit_softcapping=None),
    _field("caps", "caps", ("gemma2", "gemma3_text"), attn_logit_softcapping=2.0, final_logit_softcapping=5.0),
    _field("caps", "attention-scale", ("gemma2", "gemma3_text"), query_pre_attn_scalar=100),
    _field("router", "normed", _MIXTURES, norm_topk_prob=True),
    _field("router", "not-normed", _MIXTURES, norm_topk_prob=False),
    _field("router", "scaled", ("glm4_moe", "deepseek_v3", "deepseek_v2", "dots1"), routed_scaling_factor=2.5),
    _field("router", "groups", ("deepseek_v3", "glm4_moe", "dots1"), n_group=2, topk_group=1),
    _field("router", "sparse-step-2", ("qwen2_moe", "qwen3_moe"), decoder_sparse_step=2),
    _field("router", "dense-layers", ("qwen2_moe", "qwen3_moe"), mlp_only_layers=[0]),
    _field("router", "one-expert-a-token", ("mixtral", "qwen3_moe", "granitemoe"), num_experts_per_tok=1),
    _field("scale", "multipliers", ("granite", "granitemoe"), embedding_multiplier=12.0, logits_scaling=6.0,
           residual_multiplier=0.22, attention_multiplier=0.0625),
    _field("scale", "logit-scale", ("cohere", "cohere2"), logit_scale=0.25),
    _field("scale", "inverse-layer", ("gpt2",), scale_attn_by_inverse_layer_idx=True),
    _field("activation", "gelu", ("llama", "mistral", "qwen2", "phi3"), hidden_act="gelu"),
    _field("activation", "relu2", ("llama", "nemotron"), hidden_act="relu2"),
    _field("activation", "gelu-exact", ("gemma", "gemma2", "gemma3_text"), hidden_activation="gelu", hidden_act="gelu"),
    _field("activation", "gelu-gpt2", ("gpt2", "gptj", "gpt_neo"), activation_function="gelu"),
    _field("block", "sequential", ("gpt_neox", "stablelm", "falcon"), use_parallel_residual=False, parallel_attn=False),
    _field("block", "parallel", ("stablelm",), use_parallel_residual=True),
    _field("block", "alibi", ("falcon",), alibi=True),
    _field("block", "new-falcon", ("falcon",), new_decoder_architecture=True, num_kv_heads=2),
    _field("block", "post-norm", ("opt",), do_layer_norm_before=False),
    _rope("partial-0.25", ("phi", "stablelm", "gpt_neox", "glm", "nemotron", "persimmon"), rope_type="default",
          rope_theta=10000.0, partial_rotary_factor=0.25),
    *(Variant(name=dtype, kind="dtype", model_types=("llama", "qwen2", "gemma2", "gpt2", "qwen3_moe"), dtype=dtype)
      for dtype in ("bfloat16", "float16")),
    *(Variant(name=name, kind="quant", model_types=_QUANTISED, changes=_WIDE, dtype="float16", quant=name)
      for name in ("gptq-4bit", "awq-4bit", "fp8-blocks", "compressed-4bit", "compressed-8bit")),
    *(Variant(name=name, kind="quant", model_types=("llama",), changes=_WIDE, dtype="float16", quant=name)
      for name in ("gptq-4bit-unstated", "gptq-4bit-g32", "gptq-4bit-desc_act", "gptq-4bit-asym", "gptq-4bit-v2",
                   "gptq-8bit", "awq-4bit-GEMM", "awq-4bit-g64", "fp8-tensor", "compressed-4bit-g32",
                   "compressed-int8-a8", "compressed-fp8-a8")),
    *(Variant(name=name, kind="gguf", model_types=_IN_FILES, changes=_WIDE, quant=name)
      for name in ("gguf-f16", "gguf-q8_0", "gguf-q4_k_m")),
    # Of other sizes transformers, which takes these for every such file, gives no reference.
    *(Variant(name=f"{name}-usual-sizes", kind="gguf", model_types=("qwen3", "qwen3_moe"), quant=name,
              changes={**_WIDE, "head_dim": 128, "moe_intermediate_size": 768})
      for name in ("gguf-f16", "gguf-q8_0", "gguf-q4_k_m")),
    # Of other widths transformers scales attention otherwise than the model.
    *(Variant(name=name, kind="gguf", model_types=("gemma2",), quant=name,
              changes={**_WIDE, "head_dim": 256, "query_pre_attn_scalar": 256})
      for name in ("gguf-f16", "gguf-q8_0", "gguf-q4_k_m")),
    *(Variant(name=name, kind="quant", model_types=("llama",), changes=_WIDE, dtype="float16", quant=name)
      for name in ("bnb-nf4", "bnb-fp4", "bnb-int8", "hqq-4bit", "torchao-int8", "torchao-float8", "fp8-static",
                   "fbgemm-fp8", "modelopt-fp8", "gptq-2bit", "gptq-4bit-rows", "gptq-4bit-beside",
                   "awq-4bit-unstated", "awq-4bit-beside", "awq-4bit-rows", "compressed-4bit-in-group",
                   "compressed-4bit-twice", "compressed-4bit-asym", "compressed-fp8-blocks", "compressed-nvfp4")),
    Variant(name="mxfp4", kind="quant", model_types=("gpt_oss",), changes=_WIDE, quant="mxfp4"),
    *(Variant(name=name, kind="quant", model_types=("deepseek_v2", "deepseek_v3", "glm4_moe_lite"), changes=_LATENT,
              dtype="float16", quant=name)
      for name in ("fp8-blocks", "awq-4bit", "awq-4bit-experts", "gptq-4bit", "gptq-4bit-experts", "compressed-4bit",
                   "compressed-4bit-experts")),
    *(Variant(name=name, kind="quant", model_types=("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), changes=_LINEAR,
              dtype="float16", quant=name)
      for name in ("fp8-blocks", "awq-4bit", "awq-4bit-softmax", "gptq-4bit")),
    _field("heads", "head_dim-64", _ON_GPUS, head_dim=64, hidden_size=256),
    _field("heads", "head_dim-128", _ON_GPUS, head_dim=128, hidden_size=512),
    _field("heads", "full-queries", ("deepseek_v2", "deepseek_v3", "glm4_moe_lite"), q_lora_rank=None),
    _field("window", "alternating", ("gemma3_text", "gemma4_text", "cohere2", "olmo3", "exaone4", "gpt_oss",
           "ministral"), layer_types=_ALTERNATING),
    _field("window", "upper-layers", ("qwen2", "qwen3"), sliding_window=16, use_sliding_window=True,
           max_window_layers=2, layer_types=["full_attention"] * 2 + ["sliding_attention"] * 2),
    _rope("yarn-mscale", ("deepseek_v2", "deepseek_v3", "glm4_moe_lite"), rope_type="yarn", factor=8.0, mscale=0.707,
          mscale_all_dim=0.707, **LONG),
    _rope("yarn-betas", ("llama", "qwen3", "gpt_oss"), rope_type="yarn", factor=8.0, beta_fast=16.0, beta_slow=2.0,
          attention_factor=1.3, **LONG),
    _field("experts", "two-shared-experts", ("deepseek_v2", "deepseek_v3", "glm4_moe", "dots1", "ernie4_5_moe"),
           n_shared_experts=2, moe_num_shared_experts=2),
    _field("experts", "wide-shared-expert", ("qwen2_moe", "qwen3_next", "granitemoeshared"),
           shared_expert_intermediate_size=128, shared_intermediate_size=128),
    _field("experts", "five-experts", ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "gpt_oss"),
           num_experts=5, num_local_experts=5),
)  # fmt: skip
