"""Layers: what each layer of a model attends to and which MLP it has, from the many ways in which configs say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from calibration.errors import ModelError
from selector.model.fields import Fields
from selector.model.shape.blocks import Block, read_blocks
from selector.model.shape.limits import MOST_LAYERS
from selector.model.shape.overrides import read_overrides, skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """One entry per layer in each."""

    mixers: tuple[str, ...]
    """`full` and `window` attention keep keys and values; `linear`, `mamba`, `conv` a state of fixed size; `both` is
    full attention beside mamba; `matrix` is one linear layer; `none`: the layer is an MLP alone."""
    mlps: tuple[str, ...]
    """dense, moe, both, matrix, none"""
    window: int | None
    """Tokens that a `window` layer sees; None where no layer has one."""
    blocks: tuple[Block, ...] = ()
    """The layers of a model in which they all differ (block_configs)."""
    overrides: tuple[Fields, ...] = ()
    """The fields of each layer where some have their own (per_layer_config)."""


_MIXERS: Final = {
    # layer_types of transformers 5 (configuration_utils.ALLOWED_LAYER_TYPES) and of the models that had their own
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "window",
    # Llama 4 attends inside chunks of attention_chunk_size; engines without chunks keep all keys, so memory counts all.
    "chunked_attention": "full",
    "compressed_sparse_attention": "window",
    "heavily_compressed_attention": "window",
    "linear_attention": "linear",
    "mamba": "mamba",
    "mamba2": "mamba",
    "conv": "conv",
    "recurrent": "linear",
    "hybrid": "both",
    "hybrid_sliding": "both",
    "moe": "none",
    "mlp": "none",
}

STATE_ONLY: Final = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm"})
"""Model types that attend nowhere."""

_ALIKE: Final = dict.fromkeys(STATE_ONLY, "mamba") | {"falcon_h1": "both"}
"""Model types whose layers are all of one kind."""

_HYBRID_LETTERS: Final = {"M": "mamba", "*": "full", "-": "none", "E": "none"}
"""hybrid_override_pattern of Nemotron-H: mamba, attention, MLP, experts; each layer is one of them."""


_ATTENTION: Final = ("attention", "self_attn", "attn")
_MLP: Final = ("mlp", "ffn", "feed_forward")
"""What per_layer_config calls the parts that a layer skips."""

_COUNT: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_DECODER_COUNT: Final = ("decoder_layers", "num_decoder_layers")
"""In models that have an encoder as well, the decoder is the language model."""
_RARE_COUNT: Final = ("num_transformer_layers", "layers")
"""OpenELM; Kosmos-2."""


def read_layers(fields: Fields, model_type: str, hidden: int, experts: int) -> Layers:
    """The layers of a model.

    Raises:
        ModelError: their number is missing or absurd; a list of layers is too short, or has a kind nobody knows.
    """
    layers = _count(fields)
    window = _window(fields, model_type)
    listed = fields.texts("layers_block_type") if fields.rows("layers_block_type") is not None else ()
    pattern = fields.text("hybrid_override_pattern", default="", most=MOST_LAYERS)
    if blocks := read_blocks(fields, hidden, layers):
        mixers, mlps = tuple(block.mixer for block in blocks), tuple(block.mlp for block in blocks)
        return Layers(mixers=mixers, mlps=mlps, window=None, blocks=blocks)
    if pattern:
        mixers = _named(fields, "hybrid_override_pattern", pattern, _HYBRID_LETTERS, layers)
        mlps = tuple({"-": "dense", "E": "moe"}.get(letter, "none") for letter in pattern[:layers])
    elif listed:
        mixers = _named(fields, "layers_block_type", listed, _MIXERS, layers)
        own = {"moe", "mlp"} & set(listed)  # Nemotron-H; elsewhere each layer has an MLP as well
        mlps = tuple({"moe": "moe", "mlp": "dense"}.get(kind, "none") for kind in listed[:layers]) if own else ()
        mlps = mlps or _mlps(fields, model_type, layers, experts)
    else:
        mixers = _mixers(fields, model_type, layers, window)
        mlps = ("none",) * layers if "mamba" in model_type else _mlps(fields, model_type, layers, experts)
    overrides = read_overrides(fields, layers)
    if overrides:
        mixers = tuple(
            "none" if skipped(own, *_ATTENTION) else mixer for own, mixer in zip(overrides, mixers, strict=True)
        )
        mlps = tuple("none" if skipped(own, *_MLP) else mlp for own, mlp in zip(overrides, mlps, strict=True))
    return Layers(mixers=mixers, mlps=mlps, window=window if "window" in mixers else None, overrides=overrides)


def _count(fields: Fields) -> int:
    # Nemotron-H lists its layers and may leave the number out.
    listed = fields.rows("layers_block_type")
    default = len(listed) if listed and "num_hidden_layers" not in fields.sources[0] else None
    layers = fields.whole(*_DECODER_COUNT, *_COUNT, *_RARE_COUNT, most=MOST_LAYERS, default=default)
    if layers is None:
        raise fields.missing(*_COUNT)
    return layers


def _window(fields: Fields, model_type: str) -> int | None:
    names = ("sliding_window", "sliding_window_size", "attention_window_size")
    window = fields.whole(*names, least=0, default=None)
    if window is None and "sliding_window" not in fields.sources[0]:
        window = _WINDOWS.get(model_type)
    used = fields.flag("use_sliding_window", default=not model_type.startswith(("qwen2", "qwen3")))
    return window if window and used else None


_WINDOWS: Final = {"mistral": 4096, "gemma2": 4096, "gemma3_text": 4096, "gpt_oss": 128, "cohere2": 4096}
"""What the class takes where the config says nothing (transformers 5.23, models/*/configuration_*.py)."""

_EVERY: Final = {"gemma2": 2, "gemma3_text": 6, "gpt_oss": 2, "cohere2": 4, "exaone4": 4}
"""Where the config has no layer_types, the last of every so many layers has full attention (same source)."""


def _mixers(fields: Fields, model_type: str, layers: int, window: int | None) -> tuple[str, ...]:
    if alike := _ALIKE.get(model_type):
        return (alike,) * layers
    if (types := fields.rows("layer_types")) is not None:
        return _named(fields, "layer_types", fields.texts("layer_types") if types else (), _MIXERS, layers)
    if (types := fields.rows("hybrid_layer_pattern")) is not None:  # MiMo-V2
        return _named(fields, "hybrid_layer_pattern", types, {0: "full", 1: "window"}, layers)
    if (types := fields.rows("attn_type_list")) is not None:  # MiniMax
        return _named(fields, "attn_type_list", types, {0: "linear", 1: "full"}, layers)
    if fields.find("linear_attn_config"):  # Kimi Linear counts from one
        numbered = _numbers(fields.within("linear_attn_config"), "full_attn_layers")
        return tuple("full" if layer + 1 in numbered else "linear" for layer in range(layers))
    if fields.find("full_attn_idxs"):  # LFM2
        numbered = _numbers(fields, "full_attn_idxs")
        return tuple("full" if layer in numbered else "conv" for layer in range(layers))
    if model_type == "bamba" or fields.find("attn_layer_indices"):
        numbered = _numbers(fields, "attn_layer_indices") if fields.find("attn_layer_indices") else set()
        return tuple("full" if layer in numbered else "mamba" for layer in range(layers))
    if period := fields.whole("attn_layer_period", default=None):  # Jamba
        offset = fields.whole("attn_layer_offset", least=0, default=0)
        return tuple("full" if layer % period == offset else "mamba" for layer in range(layers))
    if interval := fields.whole("full_attention_interval", default=None):  # Qwen3-Next
        return tuple("full" if (layer + 1) % interval == 0 else "linear" for layer in range(layers))
    if blocks := fields.rows("block_types"):  # RecurrentGemma repeats a short pattern
        named = _named(fields, "block_types", blocks, _MIXERS, len(blocks))
        local = {"full": "window"} if window else {}
        return tuple(local.get(named[layer % len(named)], named[layer % len(named)]) for layer in range(layers))
    return _windowed(fields, model_type, layers, window)


def _windowed(fields: Fields, model_type: str, layers: int, window: int | None) -> tuple[str, ...]:
    """All layers attend; some of them see only the window."""
    if window is None:
        return ("full",) * layers
    name, pattern = fields.find("sliding_window_pattern", "_sliding_window_pattern") or ("", None)
    if type(pattern) is str and pattern and not pattern.strip("LG"):  # EXAONE 4: LLLG
        return tuple("window" if pattern[layer % len(pattern)] == "L" else "full" for layer in range(layers))
    every = fields.whole(name, default=None) if name else _EVERY.get(model_type)
    if every is not None:
        return tuple("full" if (layer + 1) % every == 0 else "window" for layer in range(layers))
    if (fields.find("use_sliding_window") or model_type in {"qwen2", "qwen3"}) and fields.find("max_window_layers"):
        # Qwen: the first max_window_layers layers have full attention.
        full = fields.whole("max_window_layers", least=0, most=MOST_LAYERS)
        return ("full",) * min(full, layers) + ("window",) * max(0, layers - full)
    return ("window",) * layers


def _mlps(fields: Fields, model_type: str, layers: int, experts: int) -> tuple[str, ...]:
    if not experts:
        return ("dense",) * layers
    if fields.flag("enable_moe_block") or model_type == "longcat_flash":  # Gemma 4 adds the experts to its MLP
        return ("both",) * layers
    if (types := fields.rows("mlp_layer_types")) is not None:
        kinds = {"dense": "dense", "sparse": "moe", "moe": "moe", "hash_moe": "moe"}
        return _named(fields, "mlp_layer_types", types, kinds, layers)
    frequency = fields.find("moe_layer_freq")
    if frequency and type(frequency[1]) is list:  # MiMo-V2
        return _named(fields, "moe_layer_freq", frequency[1], {0: "dense", 1: "moe"}, layers)
    first = fields.whole("first_k_dense_replace", "moe_layer_start_index", "moe_num_first_k_dense", least=0, default=0)
    every, offset = _step(fields)
    dense = _numbers(fields, "mlp_only_layers") if fields.find("mlp_only_layers") else set()
    return tuple(
        "moe" if layer >= first and layer not in dense and (layer + 1 - offset) % every == 0 else "dense"
        for layer in range(layers)
    )


def _step(fields: Fields) -> tuple[int, int]:
    """The number of layers from one with experts to the next, and by how many the count is shifted."""
    if period := fields.whole("expert_layer_period", default=None):  # Jamba
        return period, fields.whole("expert_layer_offset", least=0, default=0) + 1
    if every := fields.whole("decoder_sparse_step", "interleave_moe_layer_step", default=None):  # Qwen, Llama 4
        return every, 0
    return fields.whole("moe_layer_freq", "moe_layer_interval", default=1), 1


def _named(
    fields: Fields, name: str, kinds: Sequence[object], meanings: Mapping[Any, str], layers: int
) -> tuple[str, ...]:
    if len(kinds) < layers:
        raise ModelError(f"{fields.where}: {name} lists {len(kinds)} layers; the model has {layers}", fields.mend)
    named = []
    for kind in kinds[:layers]:
        meaning = meanings.get(kind) if type(kind) in {str, int} else None
        if meaning is None and meanings is _MIXERS and type(kind) is str:
            meaning = "full"  # a kind of attention newer than this table: count it as what needs the most memory
        if meaning is None:
            raise fields.refuse(name, f"only {', '.join(map(str, meanings))}", kind)
        named.append(meaning)
    return tuple(named)


def _numbers(fields: Fields, name: str) -> set[int]:
    rows = fields.rows(name)
    if rows is None:
        raise fields.missing(name)
    for row in rows:
        if type(row) is not int:
            raise fields.refuse(name, "a list of whole numbers", row)
    return set(rows)
