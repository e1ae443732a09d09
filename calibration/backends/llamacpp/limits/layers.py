"""Kinds of layers in an order, or of a size, that llama.cpp does not know of an architecture."""

from collections.abc import Iterator

from calibration.backend import Model
from calibration.backends.llamacpp.limits import given
from calibration.config_json import ConfigJson


def layers(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    """By the converter's name of the architecture."""
    yield from _recurrent_layers(name, config)
    yield from _dense_layers(name, config)
    yield from _chunks(name, model, config)
    yield from _window_layers(name, model, config)


def _recurrent_layers(name: str, config: ConfigJson) -> Iterator[str]:
    kinds = config.rows("layer_types")
    if name in given.RECURRENT and kinds and given.RECURRENT[name] not in kinds:
        yield f"needs a layer of kind {given.RECURRENT[name]}, or llama.cpp aborts; found none"


def _dense_layers(name: str, config: ConfigJson) -> Iterator[str]:
    """conversion/nemotron.py:209 knows layers of experts alone by name; of others it finds the dense ones nowhere.

    conversion/deepseek.py:341 writes how many of the first layers are dense.
    """
    kinds = config.rows("mlp_layer_types")
    if name == "Glm4MoeLiteForCausalLM" and "dense" in kinds[kinds.count("dense") :]:
        yield f"needs its dense layers first in mlp_layer_types for {name}; found other layers"
    named = "hybrid_override_pattern" not in config.fields
    if name == "NemotronHForCausalLM" and named and "mlp" in config.rows("layers_block_type"):
        yield f"needs no dense layer for {name}; found mlp in layers_block_type"


def _chunks(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    """src/models/llama4.cpp:14 takes chunks of 8192 tokens."""
    chunk = config.whole("attention_chunk_size", 8192)
    chunked = "chunked_attention" in (config.rows("layer_types") or ["chunked_attention"])
    if name == "Llama4ForCausalLM" and chunked and min(chunk, model.max_position) != min(8192, model.max_position):
        yield f"needs attention_chunk_size 8192, which llama.cpp takes for {name}; found {chunk}"


def _window_layers(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    period, kinds = given.WINDOW_PERIOD.get(name), config.rows("layer_types")
    if name == "LagunaForCausalLM" and "sliding_attention" in kinds:
        expected = ["sliding_attention" if i % 4 else "full_attention" for i in range(model.layers)]
        if kinds != expected:  # src/models/laguna.cpp:41
            yield "needs full attention in the first of each four layers alone; found other layers"
    if name == "Exaone4ForCausalLM" and bool(model.sliding_window) is not (model.layers == 64):
        # Of that size alone it honours the window and leaves the layers without one unrotated.
        window = "a" if model.sliding_window else "no"
        needed = "needs a sliding window with 64 layers and none with fewer"
        yield f"{needed}; found {window} window with {model.layers} layers"
    if period is None or not model.sliding_window:
        return
    expected = ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(model.layers)]
    written = config.whole(
        "global_attn_every_n_layers" if name == "AfmoeForCausalLM" else "sliding_window_pattern", period
    )
    if kinds != expected if kinds else written != period:
        yield f"needs full attention in every layer whose number {period} divides; found other layers"
