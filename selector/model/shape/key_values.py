"""KeyValues: what the cache keeps of the tokens, by kind of layer."""

from dataclasses import dataclass
from typing import Final

from selector.model.fields import Fields
from selector.model.shape.heads import Heads
from selector.model.shape.layers import Layers
from selector.model.shape.limits import MOST


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
    expanded_width: int = 0
    """With MLA, numbers kept for an entry where keys and values of every head stand in the latent vector's place."""

    def entries(self, tokens: int) -> int:
        """Entries that one sequence of `tokens` tokens keeps in one layer."""
        return min(-(-tokens // self.tokens_per_entry), self.window or tokens)


_ATTENTIONS: Final = {"longcat_flash": 2}
"""How often a layer attends."""


def read_key_values(fields: Fields, model_type: str, layers: Layers, heads: Heads) -> tuple[KeyValues, ...]:
    """What the cache keeps. Neither states of a fixed size count, nor heads that the config does not tell."""
    shared = fields.whole("num_kv_shared_layers", least=0, default=0)  # Gemma 3n, 4: the last read what others keep
    keeping = max(1, len(layers.mixers) - shared)
    mixers = layers.mixers[:keeping]
    if fields.find("compress_ratios") and not heads.kv_lora_rank:
        return _compressed(fields, layers, heads.dim or 0)
    if (heads.kv_by_layer or heads.dim_by_layer) and not heads.kv_lora_rank:
        return _by_layer(layers, heads, mixers)
    window_width, full_width = _widths(fields, heads)
    expanded = _expanded(fields, heads)
    full, windowed = sum(mixer in {"full", "both"} for mixer in mixers), mixers.count("window")
    kept = []
    if full and full_width:
        kept.append(KeyValues(layers=full * _ATTENTIONS.get(model_type, 1), width=full_width, expanded_width=expanded))
    if windowed and window_width:
        kept.append(KeyValues(layers=windowed, width=window_width, window=layers.window, expanded_width=expanded))
    # No layer keeps any: that is said, since ModelSpec takes an empty tuple for all layers alike.
    return tuple(kept) or (KeyValues(layers=len(mixers), width=0),)


def _expanded(fields: Fields, heads: Heads) -> int:
    """Numbers of the keys and values of every head, which MLA makes of its latent vector; 0 without MLA."""
    if not heads.kv_lora_rank:
        return 0
    values = heads.value_dim or 0
    nope = fields.whole("qk_nope_head_dim", most=MOST, default=values or 1)
    return (heads.count or 0) * (nope + heads.rope_dim + values)


def _widths(fields: Fields, heads: Heads) -> tuple[int, int]:
    """Numbers that a layer with a window keeps of a token, and a layer without."""
    if heads.kv_lora_rank:
        return heads.kv_lora_rank + heads.rope_dim, heads.kv_lora_rank + heads.rope_dim
    kv, dim, value_dim = heads.kv or 0, heads.dim or 0, heads.value_dim or 0
    window_width = full_width = kv * (dim + value_dim)
    if fields.find("global_head_dim", "num_global_key_value_heads"):  # Gemma 4
        wide = fields.whole("global_head_dim", most=MOST, default=dim)
        full_width = 2 * wide * fields.whole("num_global_key_value_heads", most=MOST, default=kv)
    if fields.find("swa_num_key_value_heads"):  # MiMo-V2
        narrow = fields.whole("swa_head_dim", most=MOST, default=dim)
        values = fields.whole("swa_v_head_dim", most=MOST, default=value_dim)
        window_width = fields.whole("swa_num_key_value_heads", most=MOST) * (narrow + values)
    return window_width, full_width


def _by_layer(layers: Layers, heads: Heads, mixers: tuple[str, ...]) -> tuple[KeyValues, ...]:
    """Of layers whose heads differ; those that keep as much for as long are counted together."""
    counts: dict[tuple[int, int | None], int] = {}
    for layer, mixer in enumerate(mixers):
        kv = heads.kv_by_layer[layer] if heads.kv_by_layer else heads.kv or 0
        width = kv * (heads.dim or 0) + kv * (heads.value_dim or 0)
        if heads.dim_by_layer:
            width = kv * 2 * heads.dim_by_layer[layer]
        if mixer in {"full", "both", "window"} and width:
            kind = width, layers.window if mixer == "window" else None
            counts[kind] = counts.get(kind, 0) + 1
    return tuple(KeyValues(layers=count, width=width, window=window) for (width, window), count in counts.items())


def _compressed(fields: Fields, layers: Layers, head_dim: int) -> tuple[KeyValues, ...]:
    """DeepSeek-V4: one vector is key and value; a window of them, and entries that stand for 4 or 128 tokens each.

    Where an entry stands for 4, the indexer keeps a key for it as well (transformers 5.23, models/deepseek_v4).
    """
    ratios = (fields.rows("compress_ratios") or [])[: len(layers.mixers)]
    kept = [KeyValues(layers=len(layers.mixers), width=head_dim, window=layers.window)]
    for ratio in sorted({ratio for ratio in ratios if type(ratio) is int and ratio > 0}):
        index = fields.whole("index_head_dim", most=MOST, default=0) if ratio == 4 else 0
        kept.append(KeyValues(layers=ratios.count(ratio), width=head_dim + index, tokens_per_entry=ratio))
    return tuple(kept)
