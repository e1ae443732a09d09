"""Shape: the numbers that set a model's work, memory and parameter count, under one name each."""

from dataclasses import dataclass
from typing import Final

from selector.model.fields import Fields
from selector.model.shape.heads import read_heads
from selector.model.shape.key_values import KeyValues, read_key_values
from selector.model.shape.layers import Layers, read_layers
from selector.model.shape.limits import MOST
from selector.model.shape.overrides import in_every_layer
from selector.model.shape.widths import read_experts, read_widths


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of the language model; 0 where it has no such part, and in what is `unknown`."""

    layers: Layers
    hidden: int
    heads: int
    kv_heads: int
    """Of layers that differ, the most."""
    kv_heads_by_layer: tuple[int, ...]
    """Empty where all layers have the same."""
    head_dim_by_layer: tuple[int, ...]
    """Empty where all layers have the same."""
    head_dim: int
    """Of MLA the cached latent, kv_lora_rank + qk_rope_head_dim: the head that a decode kernel sees."""
    value_dim: int
    intermediate: int
    """Of layers that differ, the widest."""
    intermediate_by_layer: tuple[int, ...]
    """Empty where all layers have the same."""
    vocab: int
    max_position: int
    experts: int
    experts_per_token: int
    expert_intermediate: int
    kv_lora_rank: int
    rope_dim: int
    """MLA: qk_rope_head_dim."""
    key_values: tuple[KeyValues, ...]
    unknown: frozenset[str]
    """What the config does not tell, under ModelSpec's names."""


_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "embed_dim", "model_dim", "emb_dim")
_VOCAB: Final = ("vocab_size", "padded_vocab_size")
_POSITIONS: Final = (
    "max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len", "max_sequence_length", "seq_len",
    "max_target_positions",
)  # fmt: skip


def read_shape(fields: Fields, model_type: str) -> Shape:
    """The shape of the language model.

    Args:
        fields: See with_defaults.
        model_type: Of the language model.

    Raises:
        ModelError: a field is missing that every config of this model has, absurd, or contradicts another.
    """
    hidden = fields.whole(*_HIDDEN, most=MOST)
    experts = read_experts(fields, model_type)
    layers = read_layers(fields, model_type, hidden, experts.count)
    fields = Fields(fields.where, *fields.sources, in_every_layer(layers.overrides), mend=fields.mend)
    heads = read_heads(fields, model_type, hidden, layers)
    widths = read_widths(fields, model_type, hidden, experts, layers)
    told = {
        "heads": heads.count,
        "kv_heads": heads.kv,
        "head_dim": heads.dim,
        "intermediate_size": widths.dense,
        "experts_per_token": experts.chosen,
        "expert_intermediate_size": widths.expert,
    }
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads.count or 0,
        kv_heads=heads.kv or 0,
        kv_heads_by_layer=heads.kv_by_layer,
        head_dim_by_layer=heads.dim_by_layer,
        head_dim=heads.dim or 0,
        value_dim=heads.value_dim or 0,
        intermediate=widths.dense or 0,
        intermediate_by_layer=widths.dense_by_layer,
        vocab=fields.whole(*_VOCAB, most=MOST),
        max_position=fields.whole(*_POSITIONS, default=0),
        experts=experts.count,
        experts_per_token=experts.chosen or 0,
        expert_intermediate=widths.expert or 0,
        kv_lora_rank=heads.kv_lora_rank,
        rope_dim=heads.rope_dim,
        key_values=read_key_values(fields, model_type, layers, heads),
        unknown=frozenset(name for name, value in told.items() if value is None),
    )
