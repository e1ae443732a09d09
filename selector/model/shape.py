"""Shape: the numbers that set a model's work, memory and parameter count, under one name each."""

from dataclasses import dataclass
from typing import Final

from selector.model import layers as layers_of
from selector.model.fields import Fields
from selector.model.layers import STATE_ONLY, Layers


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValues:
    """Layers that cache the same amount for a token."""

    layers: int
    width: int
    """Numbers kept for an entry, keys and values together."""
    window: int | None = None
    """Entries are kept for so many tokens at most."""
    tokens_per_entry: int = 1
    """DeepSeek-V4 keeps one entry for 4 or 128 tokens."""

    def entries(self, tokens: int) -> int:
        """Entries that one sequence of `tokens` tokens keeps in one layer."""
        return min(-(-tokens // self.tokens_per_entry), self.window or tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of the language model; 0 where a model has no such part."""

    layers: Layers
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    """Of MLA the cached latent, kv_lora_rank + qk_rope_head_dim: the head that a decode kernel sees."""
    value_dim: int
    intermediate: int
    vocab: int
    max_position: int
    experts: int
    experts_per_token: int
    expert_intermediate: int
    kv_lora_rank: int
    rope_dim: int
    """MLA: qk_rope_head_dim."""
    key_values: tuple[KeyValues, ...]


MOST: Final = 1 << 24
"""Ten times the largest size of any published model: vocabularies are below 300,000, hidden sizes below 20,000."""

_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "embed_dim", "model_dim")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_query_heads")
_KV_HEADS: Final = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "kv_n_heads")
_VOCAB: Final = ("vocab_size", "padded_vocab_size")
_POSITIONS: Final = (
    "max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len", "max_sequence_length", "seq_len",
)  # fmt: skip
_INTERMEDIATE: Final = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "inner_size")
_EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")
_CHOSEN: Final = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_top_k", "moe_k",
    "moe_topk",
)  # fmt: skip

_FOUR_TIMES: Final = frozenset({"gpt2", "gptj", "gpt_neo", "gpt_bigcode", "codegen", "bloom", "falcon", "mpt"})
"""Classes whose MLP is four times as wide as the model where the config does not say (transformers 5.23)."""

_MULTI_QUERY: Final = frozenset({"gpt_bigcode", "falcon"})
"""Classes whose multi_query is true where the config does not say (transformers 5.23)."""

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


def read_shape(config: Fields, model_type: str, *, inner: bool) -> Shape:
    """The shape of the language model.

    Args:
        config: The part of the config that holds the language model, then those around it.
        model_type: Of that part.
        inner: The part is nested (text_config ...): the class fills in what it leaves out.

    Raises:
        ModelError: a field is missing, absurd, or contradicts another.
    """
    defaults = (_INNER_DEFAULTS.get(model_type, {}) if inner else {}) | _DEFAULTS.get(model_type, {})
    fields = Fields(config.where, *config.sources, defaults, mend=config.mend)
    hidden = fields.whole(*_HIDDEN, most=MOST)
    heads = 0 if model_type in STATE_ONLY else fields.whole(*_HEADS, most=MOST)
    experts, chosen = _experts(fields)
    layers = layers_of.read(fields, model_type, layers_of.count(fields), experts)
    intermediate = _intermediate(fields, model_type, hidden, experts, layers)
    kv_lora_rank = fields.whole("kv_lora_rank", most=MOST, default=0)
    rope_dim = fields.whole("qk_rope_head_dim", most=MOST, default=0) if kv_lora_rank else 0
    head_dim = kv_lora_rank + rope_dim if kv_lora_rank else _head_dim(fields, hidden, heads)
    kv_heads = min(_kv_heads(fields, model_type, heads), heads)
    value_dim = fields.whole("v_head_dim", most=MOST, default=0 if kv_lora_rank else head_dim)
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=value_dim,
        intermediate=intermediate,
        vocab=fields.whole(*_VOCAB, most=MOST),
        max_position=fields.whole(*_POSITIONS, default=0),
        experts=experts,
        experts_per_token=chosen,
        expert_intermediate=_expert_intermediate(fields, experts, intermediate),
        kv_lora_rank=kv_lora_rank,
        rope_dim=rope_dim,
        key_values=_key_values(fields, layers, kv_lora_rank + rope_dim, (kv_heads, head_dim, value_dim)),
    )


def _experts(fields: Fields) -> tuple[int, int]:
    """Number of experts and how many of them a token takes; zero and zero of a dense model."""
    around = Fields(fields.where, *fields.sources, fields.table("ffn_config"), mend=fields.mend)  # DBRX
    experts = around.whole(*_EXPERTS, least=0, most=1 << 20, default=0)
    if experts <= 1:
        return 0, 0
    chosen = around.whole(*_CHOSEN, most=1 << 20)
    if chosen > experts:
        raise fields.refuse("num_experts_per_tok", f"at most the {experts} experts there are", chosen)
    return experts, chosen


def _head_dim(fields: Fields, hidden: int, heads: int) -> int:
    given: int | None = fields.whole("head_dim", "attention_head_dim", "kv_channels", most=MOST, default=None)
    if given is not None or not heads:
        return given or 0
    if hidden % heads:
        raise fields.refuse("hidden_size", f"a multiple of the {heads} heads, or a head_dim beside it", hidden)
    return hidden // heads


def _kv_heads(fields: Fields, model_type: str, heads: int) -> int:
    if model_type in STATE_ONLY:
        return 0
    many = fields.flag("new_decoder_architecture")  # Falcon: multi_query counts for the first ones only
    if not many and fields.flag("multi_query", default=model_type in _MULTI_QUERY):
        return 1
    around = Fields(fields.where, *fields.sources, fields.table("attn_config"), mend=fields.mend)  # DBRX, MPT
    kv_heads: int = around.whole(*_KV_HEADS, most=MOST, default=heads)
    if kv_heads > heads:
        raise fields.refuse("num_key_value_heads", f"at most the {heads} attention heads", kv_heads)
    return kv_heads


def _intermediate(fields: Fields, model_type: str, hidden: int, experts: int, layers: Layers) -> int:
    found: int | None = fields.whole(*_INTERMEDIATE, least=0, most=MOST, default=None)
    if found is None and model_type in _FOUR_TIMES:
        ratio: int = fields.whole("expansion_ratio", most=MOST, default=4)  # MPT
        return hidden * ratio
    if found is None and not experts and "dense" in layers.mlps and model_type not in STATE_ONLY:
        raise fields.missing(*_INTERMEDIATE)
    return found or 0


def _expert_intermediate(fields: Fields, experts: int, intermediate: int) -> int:
    if not experts:
        return 0
    around = Fields(fields.where, *fields.sources, fields.table("ffn_config"), mend=fields.mend)
    own: int | None = around.whole("moe_intermediate_size", "expert_ffn_hidden_size", most=MOST, default=None)
    own = own or around.whole("intermediate_size", "ffn_hidden_size", least=0, most=MOST, default=0) or intermediate
    if not own:
        raise fields.missing("moe_intermediate_size")
    return own


def _key_values(fields: Fields, layers: Layers, latent: int, heads: tuple[int, int, int]) -> tuple[KeyValues, ...]:
    """What the cache keeps; layers with a state of fixed size are not counted."""
    kv_heads, head_dim, value_dim = heads
    shared = fields.whole("num_kv_shared_layers", least=0, default=0)  # Gemma 3n, 4: the last read what others keep
    mixers = layers.mixers[: max(1, len(layers.mixers) - shared)]
    full = sum(mixer in {"full", "both"} for mixer in mixers)
    windowed = mixers.count("window")
    if fields.find("compress_ratios") and not latent:
        return _compressed(fields, layers, head_dim)
    window_width = full_width = latent or kv_heads * (head_dim + value_dim)
    if not latent:
        if fields.find("global_head_dim", "num_global_key_value_heads"):  # Gemma 4
            wide = fields.whole("global_head_dim", most=MOST, default=head_dim)
            full_width = 2 * wide * fields.whole("num_global_key_value_heads", most=MOST, default=kv_heads)
        if fields.find("swa_num_key_value_heads"):  # MiMo-V2
            narrow = fields.whole("swa_head_dim", most=MOST, default=head_dim)
            values = fields.whole("swa_v_head_dim", most=MOST, default=value_dim)
            window_width = fields.whole("swa_num_key_value_heads", most=MOST) * (narrow + values)
    kept = []
    if full:
        kept.append(KeyValues(layers=full, width=full_width))
    if windowed:
        kept.append(KeyValues(layers=windowed, width=window_width, window=layers.window))
    return tuple(kept)


def _compressed(fields: Fields, layers: Layers, head_dim: int) -> tuple[KeyValues, ...]:
    """DeepSeek-V4: one vector is key and value; a window of them, and entries that stand for 4 or 128 tokens each.

    Where an entry stands for 4, the indexer keeps a key for it as well (transformers 5.23, models/deepseek_v4).
    """
    rows = (fields.rows("compress_ratios") or [])[: len(layers.mixers)]
    kept = [KeyValues(layers=len(layers.mixers), width=head_dim, window=layers.window)]
    for ratio in sorted({row for row in rows if type(row) is int and row > 0}):
        index = fields.whole("index_head_dim", most=MOST, default=0) if ratio == 4 else 0
        kept.append(KeyValues(layers=rows.count(ratio), width=head_dim + index, tokens_per_entry=ratio))
    return tuple(kept)
