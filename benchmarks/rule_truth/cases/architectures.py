"""The architectures that transformers builds as causal language models, each shrunk by its own fields."""

import copy
from typing import Any

VOCAB = 320
MOST_PARAMETERS = 20_000_000

SMALL: dict[str, Any] = {
    "vocab_size": VOCAB, "vocab_size_per_layer_input": VOCAB,
    "hidden_size": 64, "n_embd": 64, "d_model": 64, "dim": 64, "embedding_size": 64, "emb_dim": 64, "model_dim": 64,
    "attention_hidden_size": 64, "lru_width": 64, "word_embed_proj_dim": 64, "hidden_size_per_layer_input": 16,
    "conv_dim": 64, "block_dim": 64,
    "intermediate_size": 128, "ffn_dim": 128, "n_inner": 128, "d_ff": 128, "ffn_hidden_size": 128, "d_inner": 128,
    "decoder_ffn_dim": 128, "encoder_ffn_dim": 128, "dff": 128, "ffn_intermediate_size": 128, "d_mlp": 128,
    "intermediate_size_mlp": 128, "mlp_intermediate_size": 128, "dense_intermediate_size": 128, "block_ff_dim": 128,
    "prefix_dense_intermediate_size": 128,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64, "moe_shared_expert_intermediate_size": 64,
    "shared_intermediate_size": 64, "expert_ffn_hidden_size": 32,
    "num_hidden_layers": 4, "n_layer": 4, "n_layers": 4, "num_layers": 4, "decoder_layers": 4, "encoder_layers": 4,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "decoder_attention_heads": 4,
    "encoder_attention_heads": 4, "attention_heads": 4, "swa_num_attention_heads": 4,
    "num_key_value_heads": 2, "num_kv_heads": 2, "n_head_kv": 2, "swa_num_key_value_heads": 2,
    "num_global_key_value_heads": 2,
    "head_dim": 16, "kv_channels": 16, "attention_head_dim": 16, "d_kv": 16, "global_head_dim": 16,
    "swa_head_dim": 16, "v_head_dim": 16, "swa_v_head_dim": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "q_lora_rank": 32, "kv_lora_rank": 32, "o_lora_rank": 16, "query_pre_attn_scalar": 16, "rotary_dim": 8,
    "max_position_embeddings": 512, "n_positions": 512, "n_ctx": 512, "max_seq_len": 512, "max_sequence_length": 512,
    "seq_length": 512, "context_length": 512, "sequence_length": 512,
    "sliding_window": 16, "attention_window_size": 16, "window_size": 16, "attention_chunk_size": 16, "block_size": 64,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "ffn_num_experts": 4,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_topk": 2, "moe_k": 2, "top_k_experts": 2,
    "n_shared_experts": 1, "num_shared_experts": 1, "moe_num_shared_experts": 1, "zero_expert_num": 2,
    "n_group": 1, "topk_group": 1, "num_expert_group": 1, "first_k_dense_replace": 1, "moe_layer_start_index": 1,
    "num_dense_layers": 1, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 1024,
    "state_size": 8, "mamba_d_state": 8, "ssm_state_size": 8, "conv_kernel": 4, "mamba_d_conv": 4,
    "mamba_n_heads": 8, "mamba_num_heads": 8, "mamba_d_head": 16, "mamba_head_dim": 16, "n_mamba_heads": 2,
    "mamba_n_groups": 1, "n_groups": 1, "mamba_ngroups": 1, "mamba_dt_rank": 4, "time_step_rank": 4,
    "chunk_size": 16, "mamba_chunk_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16, "altup_num_inputs": 2, "laurel_rank": 8,
    "initializer_range": 0.1, "init_std": 0.1, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
"""By the name of a field: what a small model has there. A field counts only where a config class fills it in."""

_TURNS = ["linear_attention", "full_attention"] * 2
_ENCODERS = (
    "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert reformer rembert roberta"
    " roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl xmod"
)
"""Encoders that are causal only where the config says so."""

OWN: dict[str, dict[str, Any]] = {
    **{model_type: {"is_decoder": True} for model_type in _ENCODERS.split()},
    "bailing_hybrid": {"layer_group_size": 2, "num_mtp_layers": 0},
    "bamba": {"attn_layer_indices": [1, 3]},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0},
        "ffn_config": {"hidden_size": 64, "ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "falcon_h1": {"mamba_d_ssm": 128},
    "gemma3n_text": {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": _TURNS},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": _TURNS, "linear_head_dim": 16, "linear_num_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "ministral": {"head_dim": 16},
    "nemotron": {"head_dim": 16},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 32},
}
"""By model type: fields that a small model needs beside these, or that must fit together."""


class NoSuchField(ValueError):
    """A config class has none of the fields that are to be changed."""


def model_types() -> dict[str, str]:
    """Model type: the class that AutoModelForCausalLM builds of it; without other names of a type."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    mapping: dict[str, Any] = {**MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    return {
        kind: names if isinstance(names, str) else names[0]
        for kind, names in mapping.items()
        if CONFIG_MAPPING[kind].model_type == kind
    }


def config_of(model_type: str, **changes: Any) -> Any:
    """A small config of a type, as an object of transformers.

    Args:
        changes: fields that the config class has and that are to be otherwise; what it has not is left out.

    Raises:
        NoSuchField: there is nothing to change.
    """
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    known = config_class().to_dict()
    changed = {name: value for name, value in changes.items() if name in known}
    if changes and not changed:
        raise NoSuchField(f"{config_class.__name__} has no {' or '.join(changes)}")
    # Copied: some config classes write into the dictionaries that they are given.
    return config_class(**copy.deepcopy({**_shrunk(config_class, known), **OWN.get(model_type, {}), **changed}))


def _shrunk(config_class: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a config class: its own fields, small.

    Args:
        known: what the class fills in.
    """
    nested = {
        name: _shrunk(inner, inner().to_dict())
        for name, inner in config_class.sub_configs.items()
        if hasattr(inner, "sub_configs")
    }
    own = {
        name: small
        for name, small in SMALL.items()
        if known.get(name) is not None and not isinstance(known[name], list)
    }
    if "qk_rope_head_dim" in own:
        # With a latent cache all heads have keys of their own, and the rotated part is transformers' head_dim.
        own |= {"num_key_value_heads": SMALL["num_attention_heads"]}
        own |= {"head_dim": own["qk_rope_head_dim"]} if "head_dim" in own else {}
    return {**own, **{name: fields for name, fields in nested.items() if fields}}
