"""What makes an architecture small: fields by their name, and of single model types what must fit together."""

from typing import Any

VOCAB = 320

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

_DOTS3_NOTE: dict[str, Any] = {
    "shared_experts_intermediate_size": 64,
    "per_layer_config": {
        layer: {
            "kv_lora_rank": 32, "q_lora_rank": 32, "num_attention_heads": 4, "num_key_value_heads": 4,
            "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "head_dim": 24, "v_head_dim": 16,
        }
        for layer in (2, 3)
    },
}  # fmt: skip
_DOTS3_NOTE_EYE = {
    "num_hidden_layers": 2, "mlp_layer_types": ["dense"] * 2, "adapter_in_dim": 64, "adapter_out_dim": 64,
}  # fmt: skip
_DOTS3_NOTE_EAR = {"adapter_input_size": 64, "adapter_out_dim": 64}
_QWEN = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.1, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
"""A decoder inside of a config that does not say of which class it is."""
_SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 64, "patch_size": 16,
}  # fmt: skip
_SEEN = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}
_QWEN3_5: dict[str, Any] = {
    **_SEEN,
    "text_config": {"eos_token_id": 2},
    "vision_config": {"depth": 2, "out_hidden_size": 64, "num_position_embeddings": 64},
}
_QWEN4: dict[str, Any] = {
    "eos_token_id": 2, "hc_lowrank": 16, "indexer_budget": 256, "indexer_compress_ratio": 4, "indexer_head_dim": 16,
    "indexer_kv_heads": 1, "indexer_n_heads": 4,
}  # fmt: skip

OWN: dict[str, dict[str, Any]] = {
    **{model_type: {"is_decoder": True} for model_type in _ENCODERS.split()},
    "bailing_hybrid": {"layer_group_size": 2, "num_mtp_layers": 0},
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {
        "encoder_hash_byte_group_vocab": 500,
        "encoder_config": {"hidden_size_global": 64},
        "decoder_config": {"hidden_size_global": 64},
    },
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("sliding_attention", "full_attention")
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 64, "ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {"text_config": _DOTS3_NOTE, "vision_config": _DOTS3_NOTE_EYE, "audio_config": _DOTS3_NOTE_EAR},
    "dots3_note_text": _DOTS3_NOTE,
    "emu3": {
        "vocabulary_map": {"<image>": 3, "<|visual token 000000|>": 4},
        "vq_config": {"base_channels": 32, "channel_multiplier": [1, 1], "codebook_size": 64, "num_res_blocks": 1},
    },
    "falcon_h1": {"mamba_d_ssm": 128},
    "fuyu": {
        "image_token_id": 3,
        "text_config": {
            "model_type": "persimmon",
            "vocab_size": VOCAB,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "initializer_range": 0.1,
        },
    },
    "gemma3": {
        "mm_tokens_per_image": 4,
        "boi_token_index": 3,
        "eoi_token_index": 4,
        "image_token_index": 5,
        "vision_config": _SIGLIP,
    },
    "gemma3n_text": {"layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2},
    "gemma4_unified": {
        "vision_config": {"mm_embed_dim": 64, "mm_posemb_size": 64, "output_proj_dims": 64},
        "audio_config": {"audio_embed_dim": 64},
    },
    "got_ocr2": {
        "image_token_index": 3,
        "text_config": {**_QWEN, "model_type": "qwen2"},
        "vision_config": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "mlp_dim": 128,
            "output_channels": 64,
            "image_size": 64,
            "global_attn_indexes": [1],
            "window_size": 2,
        },
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": _TURNS},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": _TURNS, "linear_head_dim": 16, "linear_num_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "llama4": {
        "boi_token_index": 3,
        "eoi_token_index": 4,
        "image_token_index": 5,
        "text_config": {"pad_token_id": 0},
        "vision_config": {
            "image_size": 56,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "intermediate_size": 256,
        },
    },
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "ministral": {"head_dim": 16},
    "moshi": {"audio_vocab_size": 64},
    "moss_transcribe_diarize": {"audio_token_id": 3, "text_config": {**_QWEN, "model_type": "qwen3", "head_dim": 16}},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "qwen4_exp": {**_QWEN3_5, "text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "lsh"] * 2},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "zamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 0,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "hybrid_layer_ids": [1, 3],
        "num_mem_blocks": 1,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
        "n_mamba_heads": 8,
        "mamba_headdim": 16,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 32},
}
"""By model type: fields that a small model needs beside these, or that must fit together."""


WHOLE = {
    "dots3_note": "Dots3NoteForConditionalGeneration",
    "emu3": "Emu3ForConditionalGeneration",
    "llama4": "Llama4ForConditionalGeneration",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
    "qwen4_exp": "Qwen4ExpForConditionalGeneration",
}
"""By model type: the class that its config is of, where AutoModelForCausalLM names that of its text part alone."""


NO_CASE = {
    "gemma3n": "its vision part needs timm and Pillow, which no backend requires; gemma3n_text is its decoder",
    "gemma4_assistant": "drafts for another model, whose keys and values it reads",
    "gemma4_unified_assistant": "drafts for another model, whose keys and values it reads",
    "musicgen": "its tokens are codes of sound, four at a time",
    "musicgen_melody": "its tokens are codes of sound, four at a time",
}
"""Model types that transformers lists as causal, and that are no language models of their own: why."""
