"""What published configs leave out and transformers' classes fill in."""

from typing import Final

from selector.model.fields import Fields

_DEFAULTS: Final[dict[str, dict[str, int]]] = {
    # transformers 5.23, models/*/configuration_*.py: what published configs leave out and the class fills in
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256, "num_key_value_heads": 4},
    "gemma3_text": {"head_dim": 256, "num_key_value_heads": 4},
    "glm": {"head_dim": 128, "num_key_value_heads": 2},
    "glm4": {"head_dim": 128, "num_key_value_heads": 2},
    "gpt_oss": {"head_dim": 64},
    "mistral": {"num_key_value_heads": 8},
    "mixtral": {"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    "phimoe": {"num_experts_per_tok": 2, "num_local_experts": 16},
    "qwen3": {"head_dim": 128},
    "qwen3_moe": {"num_experts": 128, "num_experts_per_tok": 8},
    "qwen2_moe": {"num_experts": 60, "num_experts_per_tok": 4},
}

_INNER_DEFAULTS: Final[dict[str, dict[str, int]]] = {
    # The same for what a text_config leaves out; at the top of a config.json these are never left out.
    "llama": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "vocab_size": 32000, "max_position_embeddings": 2048,
    },
    "mistral": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "vocab_size": 32000, "max_position_embeddings": 131072,
    },
    "gemma": {
        "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16,
        "vocab_size": 256000, "max_position_embeddings": 8192,
    },
    "gemma2": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "vocab_size": 256000, "max_position_embeddings": 8192,
    },
    "gemma3_text": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "vocab_size": 262208, "max_position_embeddings": 131072,
    },
    "qwen2": {
        "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "vocab_size": 151936, "max_position_embeddings": 32768,
    },
    "phi3": {
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
        "vocab_size": 32064, "max_position_embeddings": 4096,
    },
}  # fmt: skip


def with_defaults(config: Fields, model_type: str, *, inner: bool) -> Fields:
    """The fields of a config, and after them what the class fills in."""
    defaults = (_INNER_DEFAULTS.get(model_type, {}) if inner else {}) | _DEFAULTS.get(model_type, {})
    return Fields(config.where, *config.sources, defaults, mend=config.mend)
