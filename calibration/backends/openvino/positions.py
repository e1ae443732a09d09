"""Positions of tokens while a model is traced: they are an input of the graph, whatever the model counts itself."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any


def give_positions(model: Any) -> Callable[[Any, Any], dict[str, Any]]:
    """Let a model number its tokens by the graph's input, which of all that is traced paged attention fills in alone.

    A decoder of an encoder and a decoder counts what its cache holds, and hands nothing on from its caller: there the
    embedding of positions takes them. Paged attention knows such a count in the shape that some of these models give it
    (Bart), and reads garbage in another (Blenderbot; openvino 2026.4.1 position_ids_replacer.cpp).

    Returns:
        From ids and positions, both [batch, tokens], what the model is called with beside the ids.
    """
    embeddings = [module for module in model.modules() if _counts(module)]
    numbered = next((m for m in model.modules() if hasattr(m, "create_position_ids_from_input_ids")), None)
    takes_positions = _takes_positions(model)

    def give(input_ids: Any, position_ids: Any) -> dict[str, Any]:
        for embedding in embeddings:
            embedding.forward = partial(_embedded, embedding, position_ids)
        if not takes_positions:
            return {}
        if numbered is not None:
            position_ids = _without_padding(input_ids, position_ids, numbered.padding_idx)
        return {"position_ids": position_ids}

    return give


def look_rotations_up(model: Any) -> None:
    """Let a model that rotates neighbouring dimensions look up cosines and sines by position.

    OpenVINO knows the rotation of two halves, and keeps its angles in float32 where the rest is computed in 16 bits. It
    does not know that of neighbours: there position times frequency has 16 bits, and the angle of position 300 is off
    by up to a radian (2026.4.1 on a CPU with avx512_bf16: Helium, Cohere 2 and DeepSeek V3 with random weights diverge
    after 1,040 tokens by 50 to 400 times what bfloat16 makes of them). What is looked up has 16 bits at all positions.
    """
    import torch

    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if "1::2" not in inspect.getsource(sys.modules[type(model).__module__]) or not positions:
        return
    for rotary in (module for module in model.modules() if hasattr(module, "rope_type")):
        # A rotation that changes with the length of the text has no table; one of complex numbers is no pair.
        if "longrope" in str(rotary.rope_type):
            continue
        tables = {kind: rotary(torch.zeros(1, 1), torch.arange(positions)[None], *kind) for kind in _kinds(rotary)}
        if all(isinstance(pair, tuple) and len(pair) == 2 for pair in tables.values()):
            rotary.forward = partial(_looked_up, tables)


def _takes_positions(model: Any) -> bool:
    """Whether it is told positions, or hands them on to a language model inside that is (MOSS-Transcribe-Diarize's)."""
    asked = inspect.signature(model.forward).parameters
    hands_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked.values())
    inside = inspect.signature(model.get_decoder().forward).parameters if hands_on else {}
    return "position_ids" in {*asked, *inside}


def _counts(module: Any) -> bool:
    """Whether it embeds positions and is told how many tokens came before, as Bart's."""
    import torch

    asked = inspect.signature(module.forward).parameters
    return isinstance(module, torch.nn.Embedding) and {"past_key_values_length", "position_ids"} <= asked.keys()


def _embedded(embedding: Any, positions: Any, *_: Any, **__: Any) -> Any:
    """[batch, tokens, hidden]; the first rows of Bart's are not for positions."""
    import torch

    return torch.nn.functional.embedding(positions + getattr(embedding, "offset", 0), embedding.weight)


def _without_padding(input_ids: Any, position_ids: Any, padding: int) -> Any:
    """RoBERTa's positions: from `padding` + 1 on, without the padding in this call, whose own position is `padding`.

    transformers 5.23.0 models/roberta/modeling_roberta.py, create_position_ids_from_input_ids.
    """
    import torch

    padded = input_ids.eq(padding).long()
    return (position_ids + 1 - torch.cumsum(padded, dim=1)) * (1 - padded) + padding


def _kinds(rotary: Any) -> list[tuple[str, ...]]:
    """The further arguments that it is called with: each kind of layer, where these rotate otherwise; else none."""
    return [(kind,) for kind in rotary.rope_type] if isinstance(rotary.rope_type, dict) else [()]


def _looked_up(tables: Any, _: Any, position_ids: Any, layer_type: str | None = None) -> tuple[Any, Any]:
    """Cosines and sines [batch, tokens, width] of these positions."""
    cosines, sines = tables[() if layer_type is None else (layer_type,)]
    return cosines[0][position_ids], sines[0][position_ids]
