"""What CTranslate2 holds in memory: weights once, and keys and values for each query head, which grow by copying."""

from typing import Any

from calibration.facts.memory import ServingMemory, WeightBytes

_MKL = "Intel"
"""CPUs of this maker multiply with MKL; there the peak of loading is higher than with oneDNN."""


def _on_mkl(times: float) -> dict[str, WeightBytes]:
    """While it loads: qwen2.5-0.5b held as much with one sequence as with four, on two Ice Lakes."""
    return {_MKL: WeightBytes(layer=times, tied=times, apart=times)}


def _memory(**more: Any) -> ServingMemory:
    """As measured: a cache in float32 that holds about 1.7 times what is in it.

    layers/attention.cc repeats the keys and values of a group for each of its query heads before it keeps them; a step
    concatenates what is kept with what is new, and what is freed is not of the size that is asked for next. The scores
    of a layer are written to memory. How much of what is freed is taken again differs from launch to launch: on the
    same CPU smollm2-135m held 1283 and 1428 MiB. The margin brings the largest within 5 %.
    """
    common: dict[str, Any] = {
        "start_bytes": 67 << 20,
        "key_value": 1.66,
        "key_value_bits": 32,
        "per_query_head": True,
        "score": 0.87,
        "margin": 0.09,
    }
    return ServingMemory(**(common | more))


SERVING_MEMORY = {
    # Of weights in 16 bits some of what was read stays. The scores are by prompts of 4000 tokens, of two shapes.
    "float32": _memory(
        start_bytes=117 << 20,
        vocabulary_bytes=600,
        key_value=1.78,
        score=0.72,
        margin=0.055,
        loading_by_maker=_on_mkl(2.02),
    ),
    "int8": _memory(loading_by_maker=_on_mkl(4.1)),
    # Rounded from float32 while it loads.
    "int16": _memory(
        held=WeightBytes(layer=1.3), key_value=1.75, score=1.2, margin=0.05, loading_by_maker=_on_mkl(3.1)
    ),
}
"""Fitted to the launches of results/: gpt2, smollm2-135m, smollm2-360m, qwen2.5-0.5b and qwen3-0.6b; int16 of Ice Lakes
alone."""
