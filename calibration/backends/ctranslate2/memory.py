"""What CTranslate2 holds in memory: weights once, and keys and values for each query head, which grow by copying."""

from typing import Any

from calibration.memory import ServingMemory, WeightBytes


def _memory(**more: Any) -> ServingMemory:
    """As measured: a cache in float32 that holds about 1.7 times what is in it.

    layers/attention.cc repeats the keys and values of a group for each of its query heads before it keeps them; a step
    concatenates what is kept with what is new, and what is freed is not of the size that is asked for next. The scores
    of a layer are written to memory.
    """
    common: dict[str, Any] = {
        "start_bytes": 77 << 20,
        "key_value": 1.82,
        "key_value_bits": 32,
        "per_query_head": True,
        "score": 1.0,
    }
    return ServingMemory(**(common | more))


SERVING_MEMORY = {
    # Of weights in 16 bits some of what was read stays.
    "float32": _memory(start_bytes=165 << 20, vocabulary_bytes=700, key_value=1.65),
    "int8": _memory(),
    # Rounded from float32 while it loads.
    "int16": _memory(loading=WeightBytes(layer=2.7, tied=2.7, apart=2.7), key_value=2.1),
}
"""Of 80 launches of gpt2, smollm2-135m, smollm2-360m, qwen2.5-0.5b and qwen3-0.6b; int16 of an Ice Lake alone.
There, where MKL multiplies, float32 and int8 held up to 1.3 times as much."""
