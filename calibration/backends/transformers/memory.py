"""What transformers holds in memory: torch, the weights once, and a cache that grows by copying."""

from typing import Any

from calibration.memory import ServingMemory, WeightBytes


def _memory(**more: Any) -> ServingMemory:
    """As measured: torch and transformers take 460 MiB; a cache that is concatenated holds half as much again."""
    common: dict[str, Any] = {
        "start_bytes": 460 << 20,
        "held": WeightBytes(layer=0.97, tied=0.97, expert=1.1),
        "unpacks": frozenset({"gguf"}),
        "whole_windows": False,
        "key_value": 1.53,
        "activation": 4.34,
    }
    return ServingMemory(**(common | more))


# The scores, in 16 bits, in float32 for the softmax, and what that gives.
_EAGER: dict[str, Any] = {"start_bytes": 500 << 20, "score": 3.0}
# The file in 16 bits stays mapped until the last weight is float32.
_WIDENED: dict[str, Any] = {"loading": WeightBytes(layer=1.5, tied=1.5, apart=1.5)}

SERVING_MEMORY = {
    "sdpa": _memory(),
    "eager": _memory(**_EAGER),
    "sdpa-fp32": _memory(**_WIDENED),
    "eager-fp32": _memory(**_EAGER, **_WIDENED),
}
"""Fitted to 79 launches of seven models from 0.1 to 1.3 B parameters, in float32 and in bfloat16."""
