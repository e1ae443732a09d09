"""What a model keeps between two steps, found by running it once, and given to it as tensors while it is traced."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

GROWS = 0
"""The size of an axis that grows by the tokens of a step: nothing is kept before the first."""

_PLAIN = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer"})
_INDEXED = "DynamicIndexedLayer"
_CONVOLVED = frozenset({
    "LinearAttentionLayer", "LinearAttentionAndFullAttentionLayer", "LinearAttentionAndSlidingWindowAttentionLayer",
})  # fmt: skip
"""Layers of transformers' cache (5.23.0 cache_utils.py) that keep nothing but what `_parts` finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A tensor that a layer keeps: [batch, *sizes]."""

    layer: int
    part: str
    sizes: tuple[int, ...]

    @property
    def past(self) -> str:
        """Its name where the graph reads it."""
        return f"past_key_values.{self.layer}.{self.part}"

    @property
    def present(self) -> str:
        """Its name where the graph writes it."""
        return f"present.{self.layer}.{self.part}"


def states_of(model: Any) -> list[State]:
    """The states of all layers, in their order.

    Raises:
        ValueError: a layer keeps something else than keys, values, an indexer's keys, and inputs of convolutions.
    """
    import torch

    made = model(torch.ones(1, 2, dtype=torch.long), use_cache=True)
    layers = [(type(layer).__name__, _parts(layer)) for layer in getattr(_kept(made), "layers", [])]
    # Layers that read what an earlier one keeps come last, and have nothing of their own (Gemma 3n).
    while layers and layers[-1][0] in _PLAIN and not layers[-1][1]:
        layers.pop()
    if not layers or not all(parts and kind in {*_PLAIN, _INDEXED, *_CONVOLVED} for kind, parts in layers):
        raise ValueError(f"{type(model).__name__} keeps another state than keys, values and inputs of convolutions")
    return [
        State(layer=layer, part=part, sizes=_sizes(part, tensor))
        for layer, (_, parts) in enumerate(layers)
        for part, tensor in parts.items()
    ]


def filled(states: Sequence[State], tensors: Sequence[Any]) -> Any:
    """A cache of transformers that keeps these."""
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    count = states[-1].layer + 1
    of_layers: list[dict[str, Any]] = [{} for _ in range(count)]
    for state, tensor in zip(states, tensors, strict=True):
        of_layers[state.layer][state.part] = tensor
    cache.layers = [_layer(parts) for parts in of_layers]
    return cache


def read(states: Sequence[State], made: Any) -> list[Any]:
    """What a step kept, in the order of `states`."""
    layers = [_parts(layer) for layer in _kept(made).layers]
    return [layers[state.layer][state.part] for state in states]


def _kept(made: Any) -> Any:
    """The cache in what a model made; of an encoder and a decoder the decoder's."""
    cache = getattr(made, "past_key_values", None)
    return getattr(cache, "self_attention_cache", cache)


def _parts(layer: Any) -> dict[str, Any]:
    """The tensors that a layer of a cache keeps, by names; nothing where it keeps what no graph can.

    Recurrent states are computed otherwise for one token than for several, by loops that a trace freezes.
    """
    parts = {"key": getattr(layer, "keys", None), "value": getattr(layer, "values", None)}
    parts["index"] = getattr(layer, "indexer_keys", None)
    parts |= {f"convolution_{number}": state for number, state in getattr(layer, "conv_states", {}).items()}
    recurrent = any(state is not None for state in getattr(layer, "recurrent_states", {}).values())
    return {} if recurrent else {part: tensor for part, tensor in parts.items() if tensor is not None}


def _sizes(part: str, tensor: Any) -> tuple[int, ...]:
    axis = {"key": 2, "value": 2, "index": 1}.get(part, -1)
    return tuple(GROWS if number == axis else int(size) for number, size in enumerate(tensor.shape))[1:]


def _layer(parts: dict[str, Any]) -> Any:
    """A layer of a cache that keeps these parts. Windows are in the masks: the pipeline keeps all keys."""
    from transformers import cache_utils

    inputs = dict(enumerate(tensor for part, tensor in parts.items() if part.startswith("convolution")))
    layer: Any
    if inputs and "key" in parts:
        layer = type("Both", (_Convolutions, cache_utils.LinearAttentionAndFullAttentionLayer), {})(len(inputs))
    elif inputs:
        layer = type("Convolutions", (_Convolutions, cache_utils.LinearAttentionLayer), {})(len(inputs))
    else:
        make: Any = cache_utils.DynamicIndexedLayer if "index" in parts else cache_utils.DynamicLayer
        layer = make()
    if "key" in parts:
        cache_utils.DynamicLayer.lazy_initialization(layer, parts["key"], parts["value"])
        layer.keys, layer.values, layer.is_initialized = parts["key"], parts["value"], True
    if "index" in parts:
        layer.lazy_initialization_indexer(parts["index"])
        layer.indexer_keys = parts["index"]
    for number, tensor in inputs.items():
        layer.conv_states[number], layer.has_previous_state[number] = tensor, True
    return layer


class _Convolutions:
    """Keeps the last inputs of convolutions as a value: what stands in transformers writes them in place.

    Before the first token they are zeros, which is what a convolution is padded with.
    """

    conv_states: dict[int, Any]

    def update_conv_state(self, conv_states: Any, state_idx: int = 0, **_: Any) -> Any:
        import torch

        kept = self.conv_states[state_idx]
        whole = torch.cat([kept, conv_states], dim=-1)
        self.conv_states[state_idx] = whole[..., -int(kept.shape[-1]) :]
        return whole
