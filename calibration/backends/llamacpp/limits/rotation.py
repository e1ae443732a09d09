"""Rotary position embeddings that the converter does not write, or that llama.cpp computes otherwise."""

import math
from collections.abc import Iterator

from calibration.backend import Model
from calibration.backends.llamacpp.limits import given
from calibration.config_json import ConfigJson

_LAYER_KINDS = ("full_attention", "sliding_attention")
"""Kinds of layer that may have rotations of their own in rope_parameters."""


def rotation(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    """By the converter's name of the architecture."""
    yield from _rope(name, model, config)
    yield from _rotated_width(model, config)
    yield from _sections(name, model, config)
    yield from _rotated_layers(name, model, config)


def _rope(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    if name in given.ROPE_THETA and model.rope_theta not in {None, 1e4}:
        yield f"needs rope_theta 10000, which llama.cpp takes for {name}; found {model.rope_theta:g}"
    kinds, kind = given.WRITTEN_ROPE_TYPES.get(name), model.rope_type
    if kinds is not None and kind not in kinds | {"none"} and kind in given.ROPE_TYPES:
        yield f"needs rope type {' or '.join(sorted(kinds))}, which the converter writes for {name}; found {kind}"
    elif kind == "yarn":
        yield from _yarn(config)
    elif kind == "longrope":
        yield from _long_scale(model, config)


def _long_scale(model: Model, config: ConfigJson) -> Iterator[str]:
    """conversion/phi.py:188 takes the ratio of the two lengths for the factor, whatever the config says."""
    scaling = _scaling(config)
    original = scaling.whole("original_max_position_embeddings", config.whole("original_max_position_embeddings", 0))
    if original <= 1 or model.max_position <= 0:
        return
    ratio = model.max_position / original
    factor = scaling.number("factor", None) or ratio
    written, usual = (
        math.sqrt(1 + math.log(each) / math.log(original)) if each > 1 else 1.0 for each in (ratio, factor)
    )
    attention = scaling.number("attention_factor", None) or usual
    if not math.isclose(attention, written, rel_tol=1e-4):
        yield f"needs an attention factor of {written:.4g}, which the converter writes; found {attention:.4g}"


def _yarn(config: ConfigJson) -> Iterator[str]:
    """llama.cpp scales attention by what it computes from the factor, whatever the config says."""
    scaling = _scaling(config)
    factor = scaling.number("factor", 1.0)
    usual = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    attention = scaling.number("attention_factor", None)
    if attention is not None and not math.isclose(attention, usual, rel_tol=1e-4):
        yield f"needs attention_factor {usual:.4g}, which llama.cpp computes from the factor; found {attention:g}"


def _scaling(config: ConfigJson) -> ConfigJson:
    return config.table("rope_parameters" if "rope_parameters" in config.fields else "rope_scaling")


def _rotated_width(model: Model, config: ConfigJson) -> Iterator[str]:
    """ggml-cpu/ops.cpp:6355 aborts where an odd number of a head's values is rotated."""
    rotations = config.table("rope_parameters")
    said = (config, rotations, *(rotations.table(kind) for kind in _LAYER_KINDS))
    parts = {fields.number("partial_rotary_factor", None) for fields in said} - {None}
    for width in sorted({int(model.head_dim * part) for part in parts if part is not None}):
        if width % 2:
            yield f"needs an even number of rotated values in a head; found {width} of {model.head_dim}"


def _sections(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    """conversion/qwen.py:642 writes [11, 11, 10] where rope_parameters have none; ggml-cpu/ops.cpp:6231 aborts."""
    if name not in {"Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen4ExpForCausalLM"}:
        return
    rows = config.table("rope_parameters").rows("mrope_section") or [11, 11, 10]
    total = sum(row for row in rows if isinstance(row, int))
    if total > model.head_dim > 0:
        yield f"needs a head_dim of at least {total}, the sum of mrope_section, for {name}; found {model.head_dim}"


def _rotated_layers(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    if name != "SmolLM3ForCausalLM":
        return
    rotated = config.rows("no_rope_layers")
    expected = [int((i + 1) % 4 != 0) for i in range(model.layers)]
    if rotated != expected if rotated else config.whole("no_rope_layer_interval", 4) != 4:
        yield f"needs rotation in every layer but each fourth, which llama.cpp takes for {name}; found other layers"
