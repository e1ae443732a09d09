"""The config.json of a model's first layers: every count and list of layers shortened, widths and vocabulary kept."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from calibration.config_json import INNER
from calibration.rung import Rung

COUNTS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers",
    "num_transformer_layers", "layers",
)  # fmt: skip
"""What configs call the number of layers."""

_NUMBERED = frozenset({
    "attn_layer_indices", "cross_attention_layers", "full_attn_idxs", "full_attn_layers", "full_attention_layers",
    "global_attn_idx", "hybrid_layer_ids", "kda_layers", "mlp_only_layers", "moe_layers",
})  # fmt: skip
"""Lists with the numbers of some layers."""

_FROM_ONE = frozenset({"full_attn_layers", "kda_layers"})
"""Of these, the lists that count from one (Kimi Linear's linear_attn_config)."""

_AT_MOST = frozenset({"first_k_dense_replace", "max_window_layers", "num_dense_layers", "num_hash_layers"})
"""How many of the first layers are of a kind."""

_PREDICTING = frozenset({
    "mtp_num_hidden_layers", "mtp_transformer_layers", "num_mtp_layers", "num_mtp_modules", "num_nextn_predict_layers",
})  # fmt: skip
"""How many layers after the last guess a token ahead. No backend runs them here, and a cut checkpoint has none."""

_LONGER = frozenset({"compress_ratios", "layer_types", "mlp_layer_types"})
"""Lists that may go on with entries for the layers that predict."""

_NO_LAYERS = re.compile(r"architectures|.*token_ids?|.*_section|time_step_limit|mtp_.*|keys_to_ignore.*")
"""Lists that may by chance be as long as the model has layers."""

_QUANT = ("quantization_config", "compression_config", "quantization")

_NAMED_LAYER = re.compile(r"\b(?:layers|layer|blocks|block|blk|h)\\?\.(\d+)(?!\d)")
"""The number of a layer in the name of a module or tensor, or in a regular expression for it."""

OTHER_TOWERS = re.compile(r"vis|image|audio|speech|talker|siglip|clip|\bvit", re.IGNORECASE)
"""Modules with layers of their own beside the language model's; they stay whole."""


def cut_config(config: Mapping[str, Any], rung: Rung) -> dict[str, Any]:
    """The config of the first `rung.layers` layers.

    Numbers and lists are recognised in the objects that hold the language model, and in what they say of quantization.
    What describes other parts, such as a vision tower, stays as it is.
    """
    cut = dict(config)
    part, counted = cut, _cut_part(cut, rung)
    while name := _inner(part):
        part[name] = dict(part[name])
        part = part[name]
        counted |= _cut_part(part, rung)
    if not counted:
        part["num_hidden_layers"] = rung.layers
    return cut


def layer_lists(config: Mapping[str, Any], layers: int) -> Iterator[list[Any] | str]:
    """What the config lists for each of its `layers` layers, the first of them first."""
    part: Any = config
    while True:
        for name, value in part.items():
            if _is_per_layer(name, value, layers):
                yield value[:layers]
        if not (inner := _inner(part)):
            return
        part = part[inner]


def without_later_layers(content: Any, layers: int) -> Any:
    """Of a quantization's config: without the names of modules in layers that are not there any more."""
    match content:
        case Mapping():
            return {
                name: without_later_layers(value, layers)
                for name, value in content.items()
                if not _is_later(name, layers)
            }
        case list():
            return [
                without_later_layers(item, layers)
                for item in content
                if not (isinstance(item, str) and _is_later(item, layers))
            ]
        case _:
            return content


def _inner(part: Mapping[str, Any]) -> str:
    """Name of the object in this one that holds the language model; empty where it does so itself."""
    return next((name for name in INNER if isinstance(part.get(name), dict) and part[name]), "")


def _cut_part(part: dict[str, Any], rung: Rung) -> bool:
    """Shorten what one object says of layers; whether it said how many there are."""
    counted = False
    for name, value in part.items():
        counted |= name in COUNTS and value == rung.of
        # Nemotron-H lists its layers and may leave the number out.
        counted |= name == "layers_block_type" and _is_per_layer(name, value, rung.of)
        part[name] = _cut_table(name, value, rung) if isinstance(value, dict) else _cut_field(name, value, rung)
    return counted


def _cut_field(name: str, value: Any, rung: Rung) -> Any:
    """What a field of the language model says of its first layers."""
    match value:
        case bool():
            return value
        case int() if name in COUNTS and value == rung.of:
            return rung.layers
        case int() if name in _AT_MOST:
            return min(value, rung.layers)
        case int() if name == "moe_layer_end_index":
            return min(value, rung.layers - 1)
        case int() if name == "num_kv_shared_layers":
            return max(0, value - (rung.of - rung.layers))  # the last ones share
        case int() if name in _PREDICTING:
            return 0
        case list() | str() if _is_per_layer(name, value, rung.of):
            return value[: rung.layers]
        case list() if name in _NUMBERED:
            shift = 1 if name in _FROM_ONE else 0
            return [number for number in value if type(number) is not int or number - shift < rung.layers]
        case list() if name == "attention_types":
            return _expanded(value, rung)
        case _:
            return value


def _cut_table(name: str, table: dict[str, Any], rung: Rung) -> dict[str, Any]:
    """What an object beside the fields of the language model says of its first layers."""
    if name in _QUANT:
        cut: dict[str, Any] = without_later_layers(table, rung.layers)
        return cut
    if name == "per_layer_config":
        return {layer: own for layer, own in table.items() if not layer.isdecimal() or int(layer) < rung.layers}
    if name == "linear_attn_config":
        return {field: _cut_field(field, value, rung) for field, value in table.items()}
    return table


def _is_per_layer(name: str, value: Any, layers: int) -> bool:
    """Whether a field has an entry for each layer."""
    if not isinstance(value, list | str) or _NO_LAYERS.fullmatch(name):
        return False
    if isinstance(value, str):
        return name.endswith("_pattern") and len(value) == layers
    return len(value) == layers or (name in _LONGER and len(value) > layers)


def _expanded(types: list[Any], rung: Rung) -> list[Any]:
    """GPT-Neo's `[[["global", "local"], 12]]`, pairs of a pattern and how often it comes, for the first layers."""
    try:
        kinds = [kind for pattern, times in types for _ in range(min(times, rung.of)) for kind in pattern]
    except (TypeError, ValueError):
        return types
    return [[kinds[: rung.layers], 1]] if len(kinds) == rung.of else types


def _is_later(name: str, layers: int) -> bool:
    number = None if OTHER_TOWERS.search(name) else _NAMED_LAYER.search(name)
    return number is not None and int(number[1]) >= layers
