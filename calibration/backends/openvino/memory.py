"""What OpenVINO GenAI holds in memory: the weights of the graph's file, and beside them those that it packs anew."""

from typing import Any

from calibration.facts.memory import ServingMemory, WeightBytes

# The CPU plugin packs weights for its kernels while the file stays mapped, so that layers count about twice; without
# paged attention a tied embedding counts twice as well. Fitted to the launches of results/: seven models, among them
# gpt2 in float32 and granite-3.0-1b-a400m for the experts, and the first layers of three; on CPUs with AVX512_BF16,
# without it, and with AVX2 alone.
# The margins hold what a shape that was left out of the fit was off.
COMPUTES_IN_16_BITS = frozenset({"amx_bf16", "avx512_bf16", "avx512_fp16", "bf16", "fp16"})

_SECOND_GRAPH = 80 << 20
"""Without paged attention a check compiles the graph a second time, after the pipeline went: first launches of int8 and
int4 held 56 to 177 MiB more than the next ones."""


def _memory(**more: Any) -> ServingMemory:
    """As measured: the products with chosen experts (GatherMatmul) hold each token for each of its experts, and more.

    By granite-3.0-1b-a400m, with 1024 tokens in a step and with 4096.
    """
    return ServingMemory(**{"expert_activation": 8.0, **more})


def _quantised(**more: Any) -> ServingMemory:
    """Weights are rounded; activations are bfloat16 where the CPU multiplies it, and float32 where it does not."""
    return _memory(**{"activation": 0.48, "narrow_features": COMPUTES_IN_16_BITS, **more})


SERVING_MEMORY = {
    "fp16-pa": _memory(
        start_bytes=209 << 20,
        held=WeightBytes(layer=2.05, tied=1.0, apart=1.3, expert=1.94),
        widened=1.45,
        key_value=2.0,
        key_value_bits=16,
        score=0.16,
        activation=3.1,
        margin=0.04,
    ),
    "fp16-sdpa": _memory(
        start_bytes=126 << 20,
        check_bytes=60 << 20,
        held=WeightBytes(layer=2.04, tied=2.23, apart=1.78, expert=2.15),
        widened=1.2,
        key_value=1.84,
        key_value_bits=16,
        activation=3.86,
        margin=0.02,
    ),
    "fp32-pa": _memory(
        start_bytes=172 << 20,
        held=WeightBytes(layer=2.21, tied=2.0, apart=2.0, expert=1.94),
        key_value=1.6,
        score=0.16,
        activation=4.3,
    ),
    "fp32-sdpa": _memory(
        start_bytes=130 << 20,
        held=WeightBytes(layer=2.1, tied=2.33, apart=2.0, expert=2.15),
        key_value=2.0,
        activation=4.57,
    ),
    "int8-pa": _quantised(
        start_bytes=167 << 20,
        held=WeightBytes(layer=1.86, tied=2.38, apart=1.57, expert=1.78),
        key_value=1.13,
        score=0.72,
        wide_activation=2.9,
        margin=0.08,
    ),
    "int8-sdpa": _quantised(
        start_bytes=163 << 20,
        check_bytes=_SECOND_GRAPH,
        held=WeightBytes(layer=2.41, tied=3.09, apart=2.16, expert=2.26),
        key_value=1.11,
        score=0.18,
        wide_activation=2.42,
        margin=0.09,
    ),
    "int4-pa": _quantised(
        start_bytes=188 << 20,
        held=WeightBytes(layer=1.58, tied=1.07, apart=1.53, expert=1.17),
        key_value=0.64,
        score=0.96,
        wide_activation=1.54,
        margin=0.07,
    ),
    "int4-sdpa": _quantised(
        start_bytes=163 << 20,
        check_bytes=_SECOND_GRAPH,
        held=WeightBytes(layer=1.59, tied=2.86, apart=2.02, expert=1.41),
        key_value=0.95,
        score=0.55,
        wide_activation=3.78,
        margin=0.07,
    ),
}
