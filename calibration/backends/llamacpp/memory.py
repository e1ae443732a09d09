"""What llama.cpp holds in memory: the mapped file, what it packs anew beside it, and the KV cache of all slots."""

from typing import Any

from calibration.facts.memory import ServingMemory, WeightBytes

_PACKED_ANEW = frozenset({"q4_0", "q4_k_s", "q4_k_m"})
"""Types whose weights a CPU with AVX2 keeps in another order beside the file (ggml-cpu/repack.cpp)."""


def _memory(**more: Any) -> ServingMemory:
    """As measured: 78 MiB and half a KiB for each token of the vocabulary beside weights and cache.

    The cache of a slot is a multiple of 256 tokens, in 16 bits whatever the weights; layers with a window keep that
    and the tokens of a step.
    """
    common: dict[str, Any] = {
        "start_bytes": 78 << 20,
        "vocabulary_bytes": 512,
        "key_value_bits": 16,
        "expands_latent": False,
        "whole_windows": False,
        "context_step": 256,
        "room_ahead": True,
        "step_tokens": 512,
        "margin": 0.01,
    }
    return ServingMemory(**(common | more))


_16_BITS = _memory()

SERVING_MEMORY = {
    "f16": _16_BITS,
    "bf16": _16_BITS,
    # Without flash attention, so that the scores of a step are there.
    "f32": _memory(key_value_bits=32, score=1.0),
    # 34 bytes for 32 weights.
    "q8_0": _memory(held=WeightBytes(layer=1.0625, tied=1.0625, apart=1.0625)),
    # 18 bytes for 32 weights, twice; the head is in q6_k, or q8_0 where its rows are no multiple of 256.
    "q4_0": _memory(held=WeightBytes(layer=1.125, tied=1.0, apart=0.75)),
    # Half of some matrices are in q6_k. Where rows are no multiple of 256: other types, which are not packed anew.
    "q4_k_m": _memory(
        held=WeightBytes(layer=1.1, tied=0.9, apart=0.75), held_uneven=WeightBytes(layer=0.78, tied=1.0625, apart=0.85)
    ),
    "gguf": _memory(file_formats_held_twice=_PACKED_ANEW),
}
"""Of 200 launches of seven models from 0.1 to 1.3 B parameters, a mixture of experts among them."""
