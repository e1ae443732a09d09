"""Small configurations of several architectures, in which the rounding error is measured."""

from typing import Any

VOCAB = 320

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "hidden_size": 256,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
    "initializer_range": 0.05,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
}

MODELS: dict[str, dict[str, Any]] = {
    "llama": {**_COMMON, "architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    "mistral": {
        **_COMMON, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 16,
    },
    "qwen2": {**_COMMON, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False},
    "qwen3": {**_COMMON, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "use_sliding_window": False},
    "gemma3": {
        **_COMMON,
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "pad_token_id": 0,
        "rope_local_base_freq": 10000.0,
        "query_pre_attn_scalar": 32,
        "sliding_window": 16,
        "sliding_window_pattern": 6,
    },
    "helium": {
        **_COMMON, "architectures": ["HeliumForCausalLM"], "model_type": "helium", "num_key_value_heads": 8,
    },
    "granite-moe": {
        **_COMMON,
        "architectures": ["GraniteMoeForCausalLM"],
        "model_type": "granitemoe",
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "embedding_multiplier": 12.0,
        "logits_scaling": 6.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.0625,
        "tie_word_embeddings": True,
    },
    "phi": {
        **_COMMON,
        "architectures": ["PhiForCausalLM"],
        "model_type": "phi",
        "num_key_value_heads": 8,
        "partial_rotary_factor": 0.5,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu_new",
    },
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": VOCAB,
        "n_embd": 256,
        "n_head": 8,
        "n_positions": 512,
        "activation_function": "gelu_new",
        "bos_token_id": 319,
        "eos_token_id": 319,
        "initializer_range": 0.05,
        "torch_dtype": "bfloat16",
    },
}  # fmt: skip


def config_of(name: str, layers: int) -> dict[str, Any]:
    """A model's config.json with so many layers."""
    return {**MODELS[name], ("n_layer" if name == "gpt2" else "num_hidden_layers"): layers}
