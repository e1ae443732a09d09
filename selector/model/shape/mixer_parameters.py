"""The parameters of what mixes tokens: attention of all kinds, and layers that keep a state instead."""

from dataclasses import replace
from typing import Final

from selector.model.fields import Fields
from selector.model.shape.limits import MOST, MOST_LAYERS
from selector.model.shape.shape import Shape

BIASED: Final = frozenset({"bloom", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "opt", "phi", "starcoder2"})
"""Model types with a bias in every linear layer."""

_QKV_BIASED: Final = frozenset({"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"})

_GATED: Final = frozenset({"hrm_text", "muse_spark_text"})
"""Model types whose attention has a gate as wide as its queries, without saying so."""

_CROSS_ATTENDING: Final = frozenset({
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus",
    "pix2struct_text_model", "plbart", "pp_formulanet_text", "prophetnet", "trocr", "whisper",
})  # fmt: skip
"""Decoders that attend to an encoder's output as well."""

SHARED_BLOCKS: Final = frozenset({"zamba", "zamba2"})
"""Model types whose attending layers share the weights of attention and MLP."""

_SQUARES: Final = {"rwkv": 5, "rwkv5": 5, "rwkv6": 5, "xlstm": 4}
"""Model types whose layers keep a state; how many square matrices such a layer has."""


def mixer_parameters(config: Fields, model_type: str, shape: Shape) -> int:
    """Of all layers: their attention, or what they have in its place."""
    mixers = set(shape.layers.mixers)
    state = _state(config, model_type, shape) if {"linear", "mamba", "both", "conv"} & mixers else {}
    attention: dict[tuple[int, int, bool], int] = {}
    total = 0
    for layer, mixer in enumerate(shape.layers.mixers):
        kv_heads = shape.kv_heads_by_layer[layer] if shape.kv_heads_by_layer else shape.kv_heads
        dim = shape.head_dim_by_layer[layer] if shape.head_dim_by_layer else shape.head_dim
        kind = kv_heads, dim, mixer == "window"
        if mixer in {"full", "both", "window"} and kind not in attention:
            value_dim = dim if shape.head_dim_by_layer else shape.value_dim
            own = replace(shape, kv_heads=kv_heads, head_dim=dim, value_dim=value_dim)
            attention[kind] = _attention(config, model_type, own, window=mixer == "window")
        match mixer:
            case "full" | "window":
                total += attention[kind]
            case "both" if model_type in SHARED_BLOCKS:
                total += state.get("mamba", 0) + shape.hidden**2
            case "both":
                total += attention[kind] + state.get("mamba", 0)
            case "matrix":
                total += shape.hidden**2
            case _:
                total += state.get(mixer, 0)
    if model_type in SHARED_BLOCKS:  # of the hidden state and the embedding side by side
        total += 2 * sum(attention.values()) * shared_blocks(config)
    return total


def shared_blocks(config: Fields) -> int:
    """How many blocks of attention and MLP the attending layers share."""
    return config.whole("num_mem_blocks", most=MOST_LAYERS, default=1)


def _attention(config: Fields, model_type: str, shape: Shape, *, window: bool = False) -> int:
    """Projections of one layer, with biases and the indexer of sparse attention."""
    hidden, heads = shape.hidden, shape.heads
    if model_type == "jetmoe":  # each expert has queries and an output of its own
        return 2 * hidden * shape.kv_heads * shape.head_dim * (shape.experts + 1)
    q_rank = config.whole("q_lora_rank", most=MOST, default=0)
    if shape.kv_lora_rank:
        rope, values = shape.rope_dim, shape.value_dim
        query = config.whole("qk_nope_head_dim", most=MOST, default=values or 1) + rope
        queries: int = q_rank * (hidden + heads * query) if q_rank else hidden * heads * query
        keys = hidden * (shape.kv_lora_rank + rope) + shape.kv_lora_rank * heads * (query - rope + values)
        latent = queries + int(keys) + heads * values * hidden + _indexer(config, hidden, q_rank)
        return latent * (2 if model_type == "longcat_flash" else 1)
    kv_heads, dim, values = shape.kv_heads, shape.head_dim, shape.value_dim
    same = 2
    if window and config.find("swa_num_key_value_heads"):  # MiMo-V2
        kv_heads = config.whole("swa_num_key_value_heads", most=MOST)
    if not window and config.find("global_head_dim"):  # Gemma 4
        dim = values = config.whole("global_head_dim", most=MOST)
        kv_heads = config.whole("num_global_key_value_heads", most=MOST, default=kv_heads)
        same = 1 if config.flag("attention_k_eq_v") else 2
    if q_rank and (groups := config.whole("o_groups", most=MOST, default=0)):  # DeepSeek-V4
        out: int = config.whole("o_lora_rank", most=MOST, default=0)
        compressor = 3 * hidden * dim  # 4 or 2 matrices for 4 or 128 tokens an entry
        mixed: int = q_rank * (hidden + heads * dim)
        return mixed + (hidden + heads * out) * dim + int(groups) * out * hidden + compressor
    gate = 2 if config.flag("attn_output_gate") or model_type in _GATED else 1
    keys = kv_heads * (dim + values) if same == 2 else kv_heads * dim
    biased = model_type in BIASED or config.flag("attention_bias", "qkv_bias", default=False)
    bias = heads * dim + keys if biased or model_type in _QKV_BIASED else 0
    bias += hidden if model_type in BIASED else 0
    attention = hidden * (gate * heads * dim + keys) + heads * values * hidden + bias
    return attention * (2 if model_type in _CROSS_ATTENDING else 1)


def _indexer(config: Fields, hidden: int, q_rank: int) -> int:
    """DeepSeek sparse attention: what chooses the tokens to attend to."""
    if not config.find("index_n_heads"):
        return 0
    heads: int = config.whole("index_n_heads", most=MOST)
    dim: int = config.whole("index_head_dim", most=MOST)
    indexer = q_rank * heads * dim + hidden * (dim + heads)
    if (types := config.rows("indexer_types")) is not None and types:  # GLM-5.2: some layers share another's
        return indexer * types.count("full") // len(types)
    return indexer


def _state(config: Fields, model_type: str, shape: Shape) -> dict[str, int]:
    """Layers with a state instead of a cache: gated delta net, Kimi delta attention, mamba, short convolution."""
    hidden = shape.hidden
    kernel = config.whole("linear_conv_kernel_dim", "conv_kernel", "mamba_d_conv", "conv_L_cache", most=MOST, default=4)
    if squares := _SQUARES.get(model_type):
        return {"mamba": squares * hidden * hidden}
    keys = config.whole("linear_num_key_heads", most=MOST, default=shape.heads)
    value_heads = config.whole("linear_num_value_heads", most=MOST, default=keys)
    key = keys * config.whole("linear_key_head_dim", most=MOST, default=shape.head_dim)
    value = value_heads * config.whole("linear_value_head_dim", most=MOST, default=shape.head_dim)
    linear = hidden * (2 * key + 3 * value + 2 * value_heads) + (2 * key + value) * kernel
    if config.find("linear_attn_config", "linear_num_heads"):  # Kimi delta attention
        inner = (
            config.around("linear_attn_config")
            if config.find("linear_num_heads")
            else config.within("linear_attn_config")
        )
        dim = inner.whole("linear_head_dim", "head_dim", most=MOST, default=128)
        width = inner.whole("linear_num_heads", "num_heads", most=MOST, default=shape.heads) * dim
        full_rank = inner.flag("use_full_rank_gate")
        linear = 4 * hidden * width + (hidden + width) * dim + (hidden * width if full_rank else (hidden + width) * dim)
    if lru := config.whole("lru_width", most=MOST, default=0):  # RecurrentGemma
        linear = 3 * hidden * lru + 2 * lru * lru // (shape.heads or 1)
    heads = config.whole("mamba_num_heads", "mamba_n_heads", "n_mamba_heads", most=MOST, default=0)
    expand = config.whole("expand", "mamba_expand", most=MOST, default=2)
    states = config.whole("ssm_state_size", "mamba_d_state", "state_size", most=MOST, default=16)
    if heads:  # mamba 2
        head_dim = config.whole("mamba_head_dim", "mamba_d_head", most=MOST, default=expand * hidden // heads or 1)
        width = config.whole("mamba_d_ssm", most=MOST, default=heads * head_dim)
        groups = config.whole("n_groups", "mamba_n_groups", most=MOST, default=1)
        mixed = width + 2 * groups * states
        mamba = hidden * (width + mixed + heads) + mixed * kernel + width * hidden
    else:
        width = expand * hidden
        rank = -(-hidden // 16)
        mamba = 3 * hidden * width + width * (kernel + 2 * rank + 3 * states)
    if config.find("mamba_d_state") and not config.find("linear_num_key_heads", "linear_num_heads", "lru_width"):
        linear = mamba  # Zamba calls its mamba layers linear
    return {"linear": linear, "mamba": mamba, "conv": 4 * hidden * hidden + hidden * kernel}
