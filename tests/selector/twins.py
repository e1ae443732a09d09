"""Twins: pairs of configs with the same shapes, so with the same times, that compute different functions."""

import json
from pathlib import Path
from typing import Any

_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "torch_dtype": "float32",
}

GEMMA2 = {
    **_SHAPE,
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "head_dim": 16,
    # CTranslate2 has neither soft caps nor a scale of its own.
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "query_pre_attn_scalar": 16,
}
STABLELM = {**_SHAPE, "architectures": ["StableLmForCausalLM"], "model_type": "stablelm"}
PHI3 = {**_SHAPE, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "original_max_position_embeddings": 1024}
LLAMA = {**_SHAPE, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}

TWINS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gemma2-tied-or-not": (GEMMA2, {**GEMMA2, "tie_word_embeddings": False}),
    "stablelm-qk-layernorm-or-not": (STABLELM, {**STABLELM, "qk_layernorm": True}),
    "phi3-default-or-longrope": (
        PHI3,
        {**PHI3, "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}},
    ),
    "llama-or-a-model-type-that-wraps-it": (LLAMA, {**LLAMA, "model_type": "wrapper", "logit_scale": 0.0625}),
}
"""What they differ in: the two configs."""


def write(folder: Path, config: dict[str, Any]) -> str:
    """A model folder with this config.json; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)
