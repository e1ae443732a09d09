"""Rungs: the depths to which a model is cut for a calibration; each keeps the pattern of its layers."""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from calibration.checkpoints.cut_config import cut_config, layer_lists
from calibration.errors import ModelError
from calibration.rung import Rung
from selector.model import config as configs
from selector.model.config import Config
from selector.model.fields import Fields
from selector.model.files.sources import read_config
from selector.model.parts import language_parts
from selector.model.spec import ModelSpec, state_layers, window_layers

SHALLOW: Final = 1 / 10
"""Share of the layers on the first rung. On 2 of 24, 6 of 24 and 3 of 30 layers eight candidates had the winner, and
almost the order, of the whole models."""

DEEPER: Final = 1 / 4
"""Share of the layers on the second rung, where there is one."""

LEAST_LAYERS: Final = 2
MOST_LAYERS: Final = 1000
"""No published model has a seventh of it; a pattern is looked for in time that grows with its square."""

MOST_LAYERS_SHARE: Final = 1 / 3
MOST_PARAMETERS_SHARE: Final = 1 / 2
"""A rung with more of the layers, or, where the vocabulary is most of a model, with more of its parameters saves too
little to be worth its own conversions and checks."""

MOST_BEFORE: Final = 1 / 4
"""Share of the layers that may come before a pattern, such as the first dense ones of a mixture of experts."""

IRREGULAR_END: Final = 2
"""The last layers may be exceptions: Kimi K3 ends with two full attentions, one after the other."""

MOST_UNLIKE: Final = 0.2
"""Where layers follow no period, the shares of their kinds may differ by this much in all from the whole model's."""

Kinds = Sequence[Hashable]
"""For each layer what it is: which mixer, which MLP, and all else that the config lists by layer."""


def rungs_of(spec: ModelSpec) -> tuple[Rung, ...]:
    """The rungs of a ladder, the shallow ones first and the whole model last.

    A model of few layers, or of layers in no pattern that is known here, has only the last.
    """
    whole = Rung(layers=spec.layers, of=spec.layers)
    if spec.layers > MOST_LAYERS:
        return (whole,)
    try:
        content, where, beside = read_config(spec.place)
        return (*shallow_rungs(content, where, configs.read(content, where, beside=beside)), whole)
    except (ModelError, RecursionError):
        return (whole,)


def shallow_rungs(content: Mapping[str, Any], where: str, config: Config) -> list[Rung]:
    """The rungs below the whole model of a config.json.

    Raises:
        ModelError: what is cut cannot be read.
    """
    kinds = kinds_of(content, config)
    return [rung for rung in _spaced(kinds) if _is_useful(content, where, config, rung)]


def spec_at(spec: ModelSpec, rung: Rung) -> ModelSpec:
    """The model's first layers as a model of their own; its name and its weights are the whole model's.

    Raises:
        ModelError: the config cannot be read any more.
    """
    if rung.whole:
        return spec
    content, where, beside = read_config(spec.place)
    whole, cut = (configs.read(c, where, beside=beside) for c in (content, cut_config(content, rung)))
    return dataclasses.replace(
        spec,
        layers=rung.layers,
        window_layers=window_layers(cut.shape),
        state_layers=state_layers(cut.shape),
        sliding_window=cut.shape.layers.window,
        key_values=cut.shape.key_values,
        parameters=round(spec.parameters * _share(cut.parameters.total, whole.parameters.total)),
        expert_parameters=cut.parameters.experts,
        weight_bytes=round(spec.weight_bytes * _share(cut.weight_bytes, whole.weight_bytes)),
    )


def kinds_of(content: Mapping[str, Any], config: Config) -> Kinds:
    """The kind of each layer."""
    layers = config.shape.layers
    count = len(layers.mixers)
    lists = [list(map(repr, values)) for values in layer_lists(content, count)]
    shared = Fields("", *language_parts(content)).find("num_kv_shared_layers")
    own = [not shared or type(shared[1]) is not int or layer < count - shared[1] for layer in range(count)]
    return list(zip(layers.mixers, layers.mlps, layers.blocks or [None] * count, own, *lists, strict=True))


def _spaced(kinds: Kinds) -> list[Rung]:
    """At most two depths: SHALLOW and DEEPER, or the nearest that keep the pattern."""
    count = len(kinds)
    depths = _depths(kinds)
    first = min(
        (d for d in depths if LEAST_LAYERS <= d <= count * MOST_LAYERS_SHARE),
        key=lambda d: (abs(d - count * SHALLOW), d),
        default=None,
    )
    if first is None:
        return []
    second = min(
        (d for d in depths if 2 * first <= d <= count * MOST_LAYERS_SHARE),
        key=lambda d: (abs(d - count * DEEPER), d),
        default=None,
    )
    return [Rung(layers=depth, of=count) for depth in (first, second) if depth is not None]


def _depths(kinds: Kinds) -> list[int]:
    """Depths whose layers are as those of the whole model, the shallow ones first."""
    count = len(kinds)
    found = _period(kinds)
    if found is not None:
        before, period = found
        return list(range(before + period, count, period))
    shares = Counter(kinds)
    depths = []
    for depth in range(LEAST_LAYERS, count):
        here = Counter(kinds[:depth])
        unlike = sum(abs(here[kind] / depth - number / count) for kind, number in shares.items())
        if here.keys() == shares.keys() and unlike <= MOST_UNLIKE:
            depths.append(depth)
    return depths


def _period(kinds: Kinds) -> tuple[int, int] | None:
    """How many layers come before a pattern that repeats at least once, and after how many it does."""
    count = len(kinds)
    for end in range(count, count - 1 - min(IRREGULAR_END, count // 8), -1):
        for period in range(1, end // 2 + 1):
            broken = (layer for layer in range(end - period - 1, -1, -1) if kinds[layer] != kinds[layer + period])
            before = next(broken, -1) + 1
            if before <= count * MOST_BEFORE and before + 2 * period <= end:
                return before, period
    return None


def _is_useful(content: Mapping[str, Any], where: str, whole: Config, rung: Rung) -> bool:
    """Whether a cut saves enough, and its config says of its layers what the whole one says of the same."""
    cut = configs.read(cut_config(content, rung), where)
    unchanged = ("hidden", "heads", "head_dim", "value_dim", "vocab", "experts", "experts_per_token", "max_position")
    return (
        cut.shape.layers.mixers == whole.shape.layers.mixers[: rung.layers]
        and cut.shape.layers.mlps == whole.shape.layers.mlps[: rung.layers]
        and all(getattr(cut.shape, name) == getattr(whole.shape, name) for name in unchanged)
        and cut.parameters.total <= whole.parameters.total * MOST_PARAMETERS_SHARE
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
