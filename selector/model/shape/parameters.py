"""Parameters: how many numbers a model has, estimated from its shape (within 1 % of what its class allocates)."""

from dataclasses import dataclass, replace
from typing import Final

from selector.model.fields import Fields
from selector.model.shape.limits import MOST, MOST_LAYERS
from selector.model.shape.shape import Shape

_PLAIN_MLP: Final = frozenset({
    "biogpt", "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "nemotron",
    "nemotron_h", "opt", "persimmon", "phi", "starcoder2", "xglm",
})  # fmt: skip
"""Model types whose MLP has two matrices; all others have a gate as well (transformers 5.23)."""

_BIASED: Final = frozenset({"bloom", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "opt", "phi", "starcoder2"})
"""Model types with a bias in every linear layer."""

_QKV_BIASED: Final = frozenset({"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"})

_POSITIONED: Final = frozenset({"biogpt", "gpt2", "gpt_bigcode", "gpt_neo", "opt", "xglm"})
"""Model types with a learned embedding per position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Numbers in the parts of a model, which quantization treats differently."""

    embedding: int
    """Input and output embeddings, positions, norms, vision."""
    attention: int
    mlp: int
    """Dense MLPs, shared experts, routers."""
    experts: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.mlp + self.experts


def estimate(config: Fields, model_type: str, shape: Shape, *, tied: bool, vision: Fields | None) -> Parameters:
    """Estimate the parameters of a model.

    Args:
        config: The fields of the language model.
        model_type: Of the language model.
        shape: Its shape.
        tied: The output embedding is the input embedding.
        vision: The fields of the vision part where there is one.

    Raises:
        ModelError: a field that only the estimate reads is absurd.
    """
    mixers, mlps = shape.layers.mixers, shape.layers.mlps
    state = _state(config, shape) if {"linear", "mamba", "both", "conv"} & set(mixers) else {}
    dense, moe, experts = _mlp(config, model_type, shape)
    per_mlp = {"dense": dense, "moe": moe, "both": dense + moe, "matrix": shape.hidden**2, "none": 0}
    mlp = sum(per_mlp[kind] for kind in mlps)
    if shape.intermediate_by_layer and shape.intermediate:
        dense_layers = sum(kind in {"dense", "both"} for kind in mlps)
        mlp += dense * sum(shape.intermediate_by_layer) // shape.intermediate - dense * dense_layers
    return Parameters(
        embedding=_embedding(config, model_type, shape, tied=tied) + (_vision(vision, shape.hidden) if vision else 0),
        attention=_mixers(config, model_type, shape, state),
        mlp=mlp,
        experts=sum(kind in {"moe", "both"} for kind in mlps) * experts,
    )


def _embedding(config: Fields, model_type: str, shape: Shape, *, tied: bool) -> int:
    """Words, positions, what each layer adds to its input, and norms."""
    layers, embedding = len(shape.layers.mixers), shape.vocab * shape.hidden * (1 if tied else 2)
    if model_type in _POSITIONED:
        embedding += shape.max_position * shape.hidden
    per_layer = config.whole("hidden_size_per_layer_input", least=0, most=MOST, default=0)  # Gemma 3n, 4
    if per_layer:
        words = config.whole("vocab_size_per_layer_input", most=MOST, default=shape.vocab)
        embedding += layers * per_layer * (words + 3 * shape.hidden)
    return embedding + (2 * layers + 1) * shape.hidden * (2 if model_type in _BIASED else 1)


def _mixers(config: Fields, model_type: str, shape: Shape, state: dict[str, int]) -> int:
    """Attention, and what stands in its place, of all layers."""
    full: dict[int, int] = {}
    total = 0
    for layer, mixer in enumerate(shape.layers.mixers):
        kv_heads = shape.kv_heads_by_layer[layer] if shape.kv_heads_by_layer else shape.kv_heads
        if mixer in {"full", "both"} and kv_heads not in full:
            full[kv_heads] = _attention(config, model_type, replace(shape, kv_heads=kv_heads))
        match mixer:
            case "full":
                total += full[kv_heads]
            case "both":
                total += full[kv_heads] + state.get("mamba", 0)
            case "matrix":
                total += shape.hidden**2
            case "window":
                pass
            case _:
                total += state.get(mixer, 0)
    windowed = shape.layers.mixers.count("window")
    return total + (windowed * _attention(config, model_type, shape, window=True) if windowed else 0)


def _attention(config: Fields, model_type: str, shape: Shape, *, window: bool = False) -> int:
    """Projections of one layer, with biases and the indexer of sparse attention."""
    hidden, heads = shape.hidden, shape.heads
    q_rank = config.whole("q_lora_rank", most=MOST, default=0)
    if shape.kv_lora_rank:
        rope, values = shape.rope_dim, shape.value_dim
        query = config.whole("qk_nope_head_dim", most=MOST, default=values or 1) + rope
        queries: int = q_rank * (hidden + heads * query) if q_rank else hidden * heads * query
        keys = hidden * (shape.kv_lora_rank + rope) + shape.kv_lora_rank * heads * (query - rope + values)
        return queries + int(keys) + heads * values * hidden + _indexer(config, hidden, q_rank)
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
    gate = 2 if config.flag("attn_output_gate") else 1
    keys = kv_heads * (dim + values) if same == 2 else kv_heads * dim
    biased = model_type in _BIASED or config.flag("attention_bias", "qkv_bias", default=False)
    bias = heads * dim + keys if biased or model_type in _QKV_BIASED else 0
    bias += hidden if model_type in _BIASED else 0
    return hidden * (gate * heads * dim + keys) + heads * values * hidden + bias


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


def _state(config: Fields, shape: Shape) -> dict[str, int]:
    """Layers with a state instead of a cache: gated delta net, Kimi delta attention, mamba, short convolution."""
    hidden = shape.hidden
    kernel = config.whole("linear_conv_kernel_dim", "conv_kernel", "mamba_d_conv", "conv_L_cache", most=MOST, default=4)
    keys = config.whole("linear_num_key_heads", most=MOST, default=shape.heads)
    value_heads = config.whole("linear_num_value_heads", most=MOST, default=keys)
    key = keys * config.whole("linear_key_head_dim", most=MOST, default=shape.head_dim)
    value = value_heads * config.whole("linear_value_head_dim", most=MOST, default=shape.head_dim)
    linear = hidden * (2 * key + 3 * value + 2 * value_heads) + (2 * key + value) * kernel
    if config.find("linear_attn_config"):
        inner = config.within("linear_attn_config")
        dim = inner.whole("head_dim", most=MOST, default=128)
        width = inner.whole("num_heads", most=MOST, default=shape.heads) * dim
        full_rank = inner.flag("use_full_rank_gate")
        linear = 4 * hidden * width + (hidden + width) * dim + (hidden * width if full_rank else (hidden + width) * dim)
    heads = config.whole("mamba_num_heads", "mamba_n_heads", "n_mamba_heads", most=MOST, default=0)
    expand = config.whole("expand", "mamba_expand", most=MOST, default=2)
    states = config.whole("ssm_state_size", "mamba_d_state", "state_size", most=MOST, default=16)
    if heads:  # mamba 2
        width = heads * config.whole("mamba_head_dim", "mamba_d_head", most=MOST, default=expand * hidden // heads or 1)
        groups = config.whole("n_groups", "mamba_n_groups", most=MOST, default=1)
        mixed = width + 2 * groups * states
        mamba = hidden * (width + mixed + heads) + mixed * kernel + width * hidden
    else:
        width = expand * hidden
        rank = -(-hidden // 16)
        mamba = 3 * hidden * width + width * (kernel + 2 * rank + 3 * states)
    return {"linear": linear, "mamba": mamba, "conv": 4 * hidden * hidden + hidden * kernel}


def _mlp(config: Fields, model_type: str, shape: Shape) -> tuple[int, int, int]:
    """A dense MLP; what a mixture has beside its experts (shared ones, router); the experts."""
    hidden = shape.hidden
    matrices = 2 if model_type in _PLAIN_MLP else 3
    dense_width = config.whole("intermediate_size_mlp", most=MOST, default=shape.intermediate)  # Llama 4
    dense = matrices * hidden * dense_width
    if model_type in _BIASED:
        dense += dense_width + hidden
    if not shape.experts:
        return dense, 0, 0
    inside = config.whole("moe_latent_size", "routed_expert_hidden_size", least=0, most=MOST, default=0)
    shared = config.whole(
        "moe_shared_expert_intermediate_size",
        "shared_expert_intermediate_size",
        "share_expert_dim",
        "shared_intermediate_size",
        least=0,
        most=MOST,
        default=None,
    )
    names = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    number = config.whole(*names, least=0, most=MOST, default=0)
    if shared is None or model_type == "nemotron_h":
        shared = (shared or shape.expert_intermediate) * number
    if model_type.startswith("llama4"):
        shared = shape.expert_intermediate
    beside = matrices * hidden * shared + shape.experts * hidden + 2 * hidden * inside
    expert = matrices * (inside or hidden) * shape.expert_intermediate
    if model_type == "gpt_oss":
        expert += 2 * shape.expert_intermediate + hidden
    return dense, beside, shape.experts * expert


def _vision(vision: Fields, hidden: int) -> int:
    """A vision transformer and its projection; what its config leaves out counts as nothing."""
    names = ("depth", "num_hidden_layers", "vt_num_hidden_layers", "layers")
    layers = vision.whole(*names, most=MOST_LAYERS, default=0)
    width = vision.whole("hidden_size", "embed_dim", "vt_hidden_size", "width", most=MOST, default=0)
    inner = vision.whole("intermediate_size", "vt_intermediate_size", most=MOST, default=4 * width or 1)
    merge = vision.whole("spatial_merge_size", most=64, default=1) ** 2
    return layers * (4 * width * width + 2 * width * inner) + merge * width * (merge * width + hidden)
