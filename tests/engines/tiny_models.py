"""Small models with random weights, in the published style of config.json and in that of transformers 5."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Engine, Job, Rows
from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.worker.prompts import prompts

VOCAB = 320
PROMPT_TOKENS = 24
NEW_TOKENS = 8

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_theta": 2345.0,
}


def _config(architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [architecture], "model_type": model_type, **_COMMON, **more}


_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_GEMMA = {
    "head_dim": 16,
    "pad_token_id": 0,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_act": "gelu_pytorch_tanh",
}
_QWEN2_MOE = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 64,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "use_sliding_window": False,
}

CONFIGS: Mapping[str, dict[str, Any]] = {
    "llama": _config("LlamaForCausalLM", "llama", rope_scaling=None, tie_word_embeddings=False),
    "llama-tied": _config("LlamaForCausalLM", "llama", tie_word_embeddings=True),
    "llama3": _config("LlamaForCausalLM", "llama", hidden_size=256, rope_theta=500000.0, rope_scaling=_LLAMA3),
    "llama-linear": _config("LlamaForCausalLM", "llama", rope_scaling={"type": "linear", "factor": 4.0}),
    "llama-wide-heads": _config("LlamaForCausalLM", "llama", head_dim=32),
    "blenderbot": _config(
        "BlenderbotForCausalLM",
        "blenderbot",
        d_model=64,
        decoder_layers=3,
        decoder_attention_heads=4,
        decoder_ffn_dim=128,
        is_decoder=True,
        is_encoder_decoder=False,
        init_std=0.1,
        pad_token_id=0,
    ),
    "camembert": _config("CamembertForCausalLM", "camembert", is_decoder=True, pad_token_id=1),
    "flint": _config(
        "FlintForCausalLM",
        "flint",
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        sliding_window=512,
    ),
    "lfm2": _config("Lfm2ForCausalLM", "lfm2", layer_types=["conv", "full_attention", "conv"], conv_L_cache=3),
    "llama-endless": _config("LlamaForCausalLM", "llama", eos_token_id=None),
    "llama-bf16": _config("LlamaForCausalLM", "llama", torch_dtype="bfloat16"),
    "mistral": _config("MistralForCausalLM", "mistral", sliding_window=None),
    "mistral-window": _config("MistralForCausalLM", "mistral", sliding_window=16),
    "qwen2": _config(
        "Qwen2ForCausalLM", "qwen2", use_sliding_window=False, sliding_window=512, tie_word_embeddings=True
    ),
    "qwen2-window": _config(
        "Qwen2ForCausalLM", "qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=0
    ),
    "qwen3": _config("Qwen3ForCausalLM", "qwen3", head_dim=32, use_sliding_window=False, sliding_window=None),
    "qwen3-moe": _config(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        head_dim=16,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[],
    ),
    "gemma": _config("GemmaForCausalLM", "gemma", **_GEMMA, rope_theta=10000.0),
    "gemma-theta": _config("GemmaForCausalLM", "gemma", **_GEMMA),
    "gemma2": _config(
        "Gemma2ForCausalLM",
        "gemma2",
        **_GEMMA,
        query_pre_attn_scalar=16,
        sliding_window=64,
        final_logit_softcapping=5.0,
        attn_logit_softcapping=2.0,
    ),
    "gemma3": _config(
        "Gemma3ForCausalLM",
        "gemma3_text",
        **_GEMMA,
        rope_theta=1000000.0,
        rope_local_base_freq=10000.0,
        query_pre_attn_scalar=16,
        sliding_window=16,
        sliding_window_pattern=3,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "granite": _config(
        "GraniteForCausalLM",
        "granite",
        embedding_multiplier=12.0,
        logits_scaling=8.0,
        residual_multiplier=0.22,
        attention_multiplier=0.0625,
        tie_word_embeddings=True,
    ),
    "phi3": _config(
        "Phi3ForCausalLM", "phi3", sliding_window=None, original_max_position_embeddings=512, pad_token_id=0
    ),
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": VOCAB,
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 3,
        "n_positions": 512,
        "n_ctx": 512,
        "activation_function": "gelu_new",
        "bos_token_id": 319,
        "eos_token_id": 319,
        "initializer_range": 0.1,
    },
    "mamba": {
        "architectures": ["MambaForCausalLM"],
        "model_type": "mamba",
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "state_size": 8,
        "expand": 2,
        "initializer_range": 0.1,
        "torch_dtype": "float32",
    },
    # Token 45 is the fourth on the second prompt's path.
    "llama-eos": _config("LlamaForCausalLM", "llama", rope_scaling=None, tie_word_embeddings=False, eos_token_id=45),
    "mixtral": _config(
        "MixtralForCausalLM", "mixtral", num_local_experts=4, num_experts_per_tok=2, sliding_window=None
    ),
    "qwen2-moe": _config("Qwen2MoeForCausalLM", "qwen2_moe", **_QWEN2_MOE, norm_topk_prob=False),
    "qwen2-moe-normed": _config("Qwen2MoeForCausalLM", "qwen2_moe", **_QWEN2_MOE, norm_topk_prob=True),
    "gemma2-theta": _config(
        "Gemma2ForCausalLM",
        "gemma2",
        **_GEMMA,
        rope_theta=10000.0,
        query_pre_attn_scalar=16,
        sliding_window=16,
        final_logit_softcapping=5.0,
        attn_logit_softcapping=2.0,
    ),
    "gemma3-period": _config(
        "Gemma3ForCausalLM",
        "gemma3_text",
        **_GEMMA,
        num_hidden_layers=7,
        rope_theta=1000000.0,
        rope_local_base_freq=10000.0,
        query_pre_attn_scalar=16,
        sliding_window=16,
        sliding_window_pattern=6,
    ),
    "cohere2": _config(
        "Cohere2ForCausalLM",
        "cohere2",
        num_hidden_layers=4,
        logit_scale=0.0625,
        layer_norm_eps=1e-5,
        sliding_window=16,
        sliding_window_pattern=4,
        rotary_pct=1.0,
        tie_word_embeddings=True,
    ),
    "helium": _config("HeliumForCausalLM", "helium", num_key_value_heads=4, head_dim=16, attention_bias=False),
    "granite-moe": _config(
        "GraniteMoeForCausalLM",
        "granitemoe",
        num_local_experts=8,
        num_experts_per_tok=2,
        embedding_multiplier=12.0,
        logits_scaling=6.0,
        residual_multiplier=0.22,
        attention_multiplier=0.0625,
        tie_word_embeddings=True,
    ),
    "glm4-moe": _config(
        "Glm4MoeForCausalLM",
        "glm4_moe",
        head_dim=16,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=32,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        norm_topk_prob=True,
        partial_rotary_factor=0.5,
        attention_bias=True,
    ),
    "deepseek-v3": _config(
        "DeepseekV3ForCausalLM",
        "deepseek_v3",
        num_key_value_heads=4,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=32,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
        kv_lora_rank=32,
        q_lora_rank=32,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
        norm_topk_prob=True,
        rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "mscale_all_dim": 1.0},
    ),
    "deepseek-v32": _config(
        "DeepseekV32ForCausalLM",
        "deepseek_v32",
        num_key_value_heads=4,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=32,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
        kv_lora_rank=32,
        q_lora_rank=32,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
        norm_topk_prob=True,
        rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "mscale_all_dim": 1.0},
        index_n_heads=2,
        index_head_dim=16,
        index_topk=512,
    ),
    "exaone4-window": _config(
        "Exaone4ForCausalLM",
        "exaone4",
        sliding_window=16,
        sliding_window_pattern="LLG",
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "falcon": _config(
        "FalconForCausalLM",
        "falcon",
        new_decoder_architecture=True,
        num_kv_heads=2,
        alibi=False,
        bias=False,
        parallel_attn=True,
        layer_norm_epsilon=1e-5,
    ),
    "gptj": {
        "architectures": ["GPTJForCausalLM"],
        "model_type": "gptj",
        "vocab_size": VOCAB,
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 3,
        "n_positions": 512,
        "rotary_dim": 8,
        "activation_function": "gelu_new",
        "bos_token_id": 319,
        "eos_token_id": 319,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    },
    "olmo2": _config("Olmo2ForCausalLM", "olmo2"),
    "gpt-oss": _config(
        "GptOssForCausalLM",
        "gpt_oss",
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_scaling=None,
        attention_bias=True,
        swiglu_limit=7.0,
        tie_word_embeddings=False,
    ),
    "llama-dynamic": _config("LlamaForCausalLM", "llama", rope_scaling={"type": "dynamic", "factor": 4.0}),
    "phi3-longrope": _config(
        "Phi3ForCausalLM",
        "phi3",
        sliding_window=None,
        original_max_position_embeddings=32,
        pad_token_id=0,
        rope_scaling={"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0 + i for i in range(8)]},
    ),
}

CONFIGS = {
    **CONFIGS,
    # Returns no cache but the one that it was given.
    "recurrent-gemma": _config(
        "RecurrentGemmaForCausalLM",
        "recurrent_gemma",
        lru_width=64,
        attention_window_size=16,
        block_types=["recurrent", "recurrent", "attention"],
        pad_token_id=0,
        head_dim=16,
    ),
    # Moves the tokens to the device of its embeddings before it looks them up.
    "llama4": _config(
        "Llama4ForCausalLM",
        "llama4_text",
        head_dim=16,
        intermediate_size_mlp=128,
        num_local_experts=4,
        num_experts_per_tok=1,
        attention_chunk_size=64,
    ),
    **{
        f"{name}-wide": {**CONFIGS[name], "head_dim": 32} for name in ("gemma3", "llama", "mistral-window", "qwen3-moe")
    },
}


def write(name: str, style: str, root: Path) -> Path:
    """The folder of a checkpoint, made once for `root`; `style` is `published` or `transformers-5`."""
    made = root / f"{name}-{style}"
    if not made.exists():
        source = root / f"{name}-{style}-config"
        source.mkdir()
        (source / "config.json").write_text(json.dumps(CONFIGS[name]))
        if style == "transformers-5":
            from transformers import AutoConfig

            AutoConfig.from_pretrained(source).save_pretrained(source)
        write_random_checkpoint(source, made)
    return made


def job(folder: Path, backend: Backend, variant: str, artifact: Path | None = None) -> Job:
    config = json.loads((folder / "config.json").read_text())
    return Job(
        model_dir=folder,
        variant=backend.variant(variant),
        artifact_dir=artifact,
        dtype=config.get("torch_dtype") or config.get("dtype") or "float32",
        vocab_size=VOCAB,
        device="cpu",
        # With AMX, OpenVINO 2026.4 divides by zero in bfloat16 on one thread.
        threads=2 if backend.name == "openvino" else 1,
        max_context_tokens=128,
        max_batch=3,
    )


def load(backend: Backend, variant: str, folder: Path) -> Engine:
    """Convert, where the variant needs it, beside the checkpoint; then load."""
    asked = job(folder, backend, variant)
    if asked.variant.prepares:
        artifact = folder.parent / f"{folder.name}-{backend.name}-{variant}"
        asked = job(folder, backend, variant, artifact)
        if not artifact.exists():
            artifact.mkdir()
            backend.prepare(asked, artifact, print)
    return backend.load(asked)


def asked_prompts(length: int = PROMPT_TOKENS) -> list[list[int]]:
    return prompts("tiny", VOCAB, length, 3)


def rows(scores: Rows | None) -> Any:
    """[step, vocab] as a numpy array."""
    import numpy as np

    assert scores is not None
    return np.stack([np.asarray(row) for row in scores])


def unlike(engine: Engine, reference: Engine, *, length: int = PROMPT_TOKENS, within: float = 1e-4) -> list[str]:
    """What an engine does otherwise than the reference, or than it has promised; nothing for a right one."""
    import numpy as np

    asked = asked_prompts(length)
    expected = reference.generate(asked, NEW_TOKENS).tokens
    made = engine.generate(asked, NEW_TOKENS)
    found = []
    if made.tokens != expected:
        found.append("greedy tokens")
    if [engine.generate([prompt], NEW_TOKENS).tokens[0] for prompt in asked] != list(made.tokens):
        found.append("a batch and its prompts alone")
    if [len(row) for row in made.tokens] != [NEW_TOKENS] * 3 or [len(row) for row in made.arrivals] != [NEW_TOKENS] * 3:
        found.append("number of tokens")
    if any(not _rises(row) for row in made.arrivals):
        found.append("arrivals")
    continuation = expected[0][:-1]
    ours, theirs = rows(engine.score(asked[0], continuation)), rows(reference.score(asked[0], continuation))
    if ours.shape != theirs.shape or not np.abs(ours - theirs).max() < within:
        found.append("scores")
    return found


def _rises(times: Sequence[float]) -> bool:
    return times[0] > 0 and list(times) == sorted(times)
