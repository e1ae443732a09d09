"""Blocks: what each layer has in models found by a search (DeciLM, Nemotron-NAS), whose layers all differ."""

from dataclasses import dataclass

from selector.model.fields import MOST, Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One layer; None: its config does not tell."""

    mixer: str
    """full, mamba, matrix (a linear layer took attention's place), none"""
    mlp: str
    """dense, matrix, none"""
    group: int | None
    """Attention heads that share a KV head."""
    width: int | None
    """Of the MLP."""


def read_blocks(fields: Fields, hidden: int, layers: int) -> tuple[Block, ...]:
    """The entries of `block_configs`; empty where there is no such list.

    Raises:
        ModelError: the list is too short, or an entry is absurd.
    """
    rows = fields.rows("block_configs")
    if rows is None:
        return ()
    if len(rows) < layers:
        raise fields.refuse("block_configs", f"an entry for each of the {layers} layers", rows)
    return tuple(_block(fields, row, hidden) for row in rows[:layers])


def _block(fields: Fields, row: object, hidden: int) -> Block:
    if type(row) is not dict:
        raise fields.refuse("block_configs", "a list of objects", row)
    block = Fields(f"{fields.where}: block_configs", row, mend=fields.mend)
    attention, mlp = block.within("attention"), block.within("ffn")
    mamba = bool(attention.table("mamba"))
    return Block(
        mixer=_kind(attention, "mamba" if mamba else "full"),
        mlp=_kind(mlp, "dense"),
        group=attention.whole("n_heads_in_group", most=MOST, default=None),
        width=_width(mlp, hidden),
    )


def _kind(part: Fields, kind: str) -> str:
    if part.flag("no_op"):
        return "none"
    return "matrix" if part.flag("replace_with_linear") else kind


def _width(mlp: Fields, hidden: int) -> int | None:
    width = mlp.whole("intermediate_size", most=MOST, default=None)
    factor = mlp.number("ffn_mult", default=None)
    if width is not None or factor is None:
        return width
    # modeling_decilm.py of the published models: two thirds of it, rounded up to a multiple of 256.
    return min(-(-int(2 * min(factor, MOST) * hidden / 3) // 256) * 256, MOST)
