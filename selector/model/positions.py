"""Positions: how a model tells the places of tokens apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from selector.model.fields import Fields

_UNROTATED: Final = frozenset(
    """
    bart bert bert-generation big_bird bigbird_pegasus biogpt blenderbot blenderbot-small blip_text_model bloom
    camembert cpmant ctrl data2vec-text electra ernie falcon_mamba git gpt2 gpt_bigcode gpt_neo jamba
    kosmos_2_5_text_model kosmos_2_text_model mamba mamba2 marian mbart megatron-bert mpt musicgen_decoder
    musicgen_melody_decoder mvp openai-gpt opt pegasus pix2struct_text_model plbart pp_formulanet_text prophetnet
    reformer rembert roberta roberta-prelayernorm roc_bert rwkv trocr udop whisper xglm xlm xlm-roberta
    xlm-roberta-xl xlnet xlstm xmod zamba
    """.split()
)
"""Model types without rotary positions: learned ones, ALiBi, relative ones, or none (transformers 5.23)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    rope_type: str
    """default, linear, dynamic, yarn, llama3, longrope, mrope ...; `none` where positions are not rotated."""
    rope_theta: float | None
    """None where positions are not rotated, or the config does not tell."""


def read_positions(fields: Fields, model_type: str) -> Positions:
    """Read transformers 5's `rope_parameters`, or the older `rope_scaling` with its `rope_theta` beside it.

    Raises:
        ModelError: a field is absurd.
    """
    if model_type in _UNROTATED:
        return Positions(rope_type="none", rope_theta=None)
    parameters = _parameters(fields.table("rope_parameters", "rope_scaling"))
    rotated = not (fields.flag("alibi") or fields.flag("mla_use_nope"))
    rope_type = _type(Fields(f"{fields.where}: rope", parameters, mend=fields.mend)) if rotated else "none"
    around = Fields(fields.where, parameters, *fields.sources, fields.table("attn_config"), mend=fields.mend)  # DBRX
    return Positions(rope_type=rope_type, rope_theta=around.number("rope_theta", "rotary_emb_base", default=None))


def _parameters(rope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of full attention, where layers differ."""
    by_layer_type = [value for value in rope.values() if type(value) is dict]
    if not by_layer_type or len(by_layer_type) < len(rope):
        return rope
    for layer_type in ("full_attention", "main"):
        if layer_type in rope:
            return dict(rope[layer_type])
    return dict(by_layer_type[0])


def _type(rope: Fields) -> str:
    named = rope.text("rope_type", "type", default="default", most=40)
    if named == "default" and rope.find("mrope_section"):
        return "mrope"
    return {"su": "longrope"}.get(named, named)
