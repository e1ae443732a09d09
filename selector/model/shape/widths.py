"""Widths: how wide the MLPs of a model are, how many experts it has and how many of them a token takes."""

from dataclasses import dataclass
from typing import Final

from selector.model.fields import Fields
from selector.model.native_types import NATIVE
from selector.model.shape.layers import STATE_ONLY, Layers
from selector.model.shape.limits import MOST

_WIDTH: Final = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "inner_size")
_OLDER_WIDTH: Final = ("dff", "d_ff", "dim_ff", "feed_forward_size", "d_inner")
"""CTRL, T5 and Pix2Struct, CPM-Ant, Reformer, XLNet."""

_EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")
_CHOSEN: Final = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_top_k", "moe_k",
    "moe_topk",
)  # fmt: skip

_FOUR_TIMES: Final = frozenset({
    "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox_japanese", "gptj", "mpt", "openai-gpt",
    "xlm",
})  # fmt: skip
"""Classes whose MLP is four times as wide as the model where the config does not say (transformers 5.23)."""

_CHOSEN_UNTOLD: Final = frozenset({"deepseek_v2"})
"""Classes that leave open how many experts a token takes (transformers 5.23)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """How many there are; 0 in a dense model."""

    count: int
    chosen: int | None
    """How many a token takes; None: the config does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Of the MLPs. None: the config does not tell; 0: no layer has such an MLP."""

    dense: int | None
    """Of layers that differ, the widest."""
    expert: int | None
    dense_by_layer: tuple[int, ...]
    """Empty where all layers have the same."""


def read_experts(fields: Fields, model_type: str) -> Experts:
    """Raises ModelError: a number is missing, absurd, or contradicts another."""
    around = fields.around("ffn_config")  # DBRX
    count = around.whole(*_EXPERTS, least=0, most=1 << 20, default=0)
    if count <= 1 or not fields.flag("is_moe", default=True):  # Doge
        return Experts(count=0, chosen=0)
    chosen = around.whole(*_CHOSEN, most=1 << 20, default=None)
    if chosen is None and model_type in NATIVE - _CHOSEN_UNTOLD:
        raise fields.missing(*_CHOSEN)
    if chosen is not None and chosen > count:
        raise fields.refuse("num_experts_per_tok", f"at most the {count} experts there are", chosen)
    return Experts(count=count, chosen=chosen)


def read_widths(fields: Fields, model_type: str, hidden: int, experts: Experts, layers: Layers) -> Widths:
    """Raises ModelError: a number is missing from a config that always has it, or absurd."""
    dense = _dense(fields, model_type, hidden, experts, layers)
    by_layer = _by_layer(fields, dense, layers)
    dense = max(by_layer, default=dense)
    return Widths(
        dense=dense,
        expert=_expert(fields, model_type, dense) if experts.count else 0,
        dense_by_layer=by_layer if len(set(by_layer)) > 1 else (),
    )


def _by_layer(fields: Fields, dense: int | None, layers: Layers) -> tuple[int, ...]:
    """One number for each layer; empty where the config has one for all, or does not tell them all."""
    if layers.overrides:
        return tuple(own.whole(*_WIDTH, least=0, most=MOST, default=dense or 0) for own in layers.overrides)
    if not layers.blocks:
        return fields.wholes(*_WIDTH, count=len(layers.mixers), most=MOST)
    if any(block.mlp == "dense" and block.width is None for block in layers.blocks):
        return ()
    return tuple(min(block.width or 0, MOST) if block.mlp == "dense" else 0 for block in layers.blocks)


def _dense(fields: Fields, model_type: str, hidden: int, experts: Experts, layers: Layers) -> int | None:
    # Of a model with an encoder the decoder's.
    width = fields.whole("decoder_ffn_dim", *_WIDTH, *_OLDER_WIDTH, least=0, most=MOST, default=None)
    if width is not None:
        return width
    if model_type in _FOUR_TIMES:  # MPT; GPT-NeoX-Japanese
        return hidden * fields.whole("expansion_ratio", "intermediate_multiple_size", most=MOST, default=4)
    if experts.count or "dense" not in layers.mlps or model_type in STATE_ONLY:
        return 0
    if model_type in NATIVE:
        raise fields.missing(*_WIDTH)
    return None


def _expert(fields: Fields, model_type: str, dense: int | None) -> int | None:
    around = fields.around("ffn_config")  # DBRX
    width = around.whole("moe_intermediate_size", "expert_ffn_hidden_size", most=MOST, default=None)
    width = width or around.whole("intermediate_size", "ffn_hidden_size", least=0, most=MOST, default=0) or dense
    if not width and model_type in NATIVE:
        raise fields.missing("moe_intermediate_size")
    return width or None
