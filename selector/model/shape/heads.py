"""Heads: how many attention heads a model has, how many of them keep keys and values, and how wide they are."""

from dataclasses import dataclass
from typing import Final

from selector.model.fields import Fields
from selector.model.native_types import NATIVE
from selector.model.shape.layers import STATE_ONLY, Layers
from selector.model.shape.limits import MOST

_HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_query_heads")
_DECODER_HEADS: Final = ("decoder_attention_heads", "num_decoder_attention_heads", "attention_heads")
"""In models that have an encoder as well, the decoder is the language model; `attention_heads` is XGLM's."""

_KV_HEADS: Final = (
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "kv_n_heads",
    "num_key_value_heads_per_layer",
)  # fmt: skip
_HEAD_DIM: Final = (
    "head_dim",
    "attention_head_dim",
    "kv_channels",
    "dim_head",
    "d_head",
    "d_kv",
    "attention_head_size",
)

_MULTI_QUERY: Final = frozenset({"gpt_bigcode", "falcon"})
"""Classes whose multi_query is true where the config does not say (transformers 5.23)."""

_ROUNDED_DOWN: Final = frozenset({"glm4_moe", "glm4v_moe_text", "qwen3_omni_moe_text"})
"""Classes that round hidden_size / heads down where the config has no head_dim (transformers 5.23)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Of one layer. None: the config does not tell; 0: no layer attends."""

    count: int | None
    kv: int | None
    """Of layers that differ, the most."""
    dim: int | None
    """Of MLA the cached latent, kv_lora_rank + qk_rope_head_dim: the head that a decode kernel sees."""
    value_dim: int | None
    kv_lora_rank: int
    """0 without MLA."""
    rope_dim: int
    """MLA: qk_rope_head_dim."""
    kv_by_layer: tuple[int, ...]
    """Empty where all layers have the same."""
    dim_by_layer: tuple[int, ...]
    """Empty where all layers have the same."""


def read_heads(fields: Fields, model_type: str, hidden: int, layers: Layers) -> Heads:
    """Raises ModelError: a number is missing from a config that always has it, absurd, or contradicts another."""
    count = 0 if model_type in STATE_ONLY else fields.whole(*_DECODER_HEADS, *_HEADS, most=MOST, default=None)
    if count is None and model_type in NATIVE:
        raise fields.missing(*_HEADS)
    kv_lora_rank = fields.whole("kv_lora_rank", most=MOST, default=0)
    rope_dim = fields.whole("qk_rope_head_dim", least=0, most=MOST, default=0) if kv_lora_rank else 0
    dim = kv_lora_rank + rope_dim if kv_lora_rank else _dim(fields, model_type, hidden, count)
    kv = _kv(fields, model_type, count, layers)
    kv_by_layer = _kv_by_layer(fields, count, kv, layers)
    dim_by_layer = tuple(own.whole(*_HEAD_DIM, most=MOST, default=dim or 0) for own in layers.overrides)
    return Heads(
        count=count,
        kv=max(kv_by_layer, default=kv),
        dim=dim,
        value_dim=fields.whole("v_head_dim", least=0, most=MOST, default=0) or (0 if kv_lora_rank else dim),
        kv_lora_rank=kv_lora_rank,
        rope_dim=rope_dim,
        kv_by_layer=kv_by_layer if len(set(kv_by_layer)) > 1 else (),
        dim_by_layer=dim_by_layer if len(set(dim_by_layer)) > 1 and not kv_lora_rank else (),
    )


def _dim(fields: Fields, model_type: str, hidden: int, count: int | None) -> int | None:
    dim = fields.whole(*_HEAD_DIM, most=MOST, default=None)
    if dim is not None or count is None:
        return dim
    if count == 0:
        return 0
    if hidden % count and model_type not in _ROUNDED_DOWN:
        raise fields.refuse("hidden_size", f"a multiple of the {count} heads, or a head_dim beside it", hidden)
    return hidden // count


def _kv_by_layer(fields: Fields, count: int | None, kv: int | None, layers: Layers) -> tuple[int, ...]:
    """One number for each layer; empty where the config has one for all."""
    if layers.overrides:
        by_layer = tuple(own.whole(*_KV_HEADS, least=0, most=MOST, default=kv or 0) for own in layers.overrides)
        heads = [own.whole(*_HEADS, most=MOST, default=count or 0) for own in layers.overrides]
        for own_kv, own_heads in zip(by_layer, heads, strict=True):
            if count is not None and own_kv > own_heads and kv is not None:
                raise fields.refuse("per_layer_config", f"at most the {own_heads} attention heads", own_kv)
        return by_layer
    if not layers.blocks:
        return fields.wholes(*_KV_HEADS, count=len(layers.mixers), most=MOST)
    attending = [block for block in layers.blocks if block.mixer == "full"]
    if count is None or any(block.group is None for block in attending):
        return ()
    return tuple(count // block.group if block.mixer == "full" and block.group else 0 for block in layers.blocks)


def _kv(fields: Fields, model_type: str, count: int | None, layers: Layers) -> int | None:
    if count == 0:
        return 0
    several = fields.flag("new_decoder_architecture")  # Falcon: multi_query counts for the first ones only
    if not several and fields.flag("multi_query", default=model_type in _MULTI_QUERY):
        return 1
    kv = fields.around("attn_config").whole(*_KV_HEADS, most=MOST, default=None)  # DBRX, MPT
    if kv is not None and count is not None and kv > count:
        raise fields.refuse("num_key_value_heads", f"at most the {count} attention heads", kv)
    return kv if kv is not None or layers.blocks else count
