"""What transformers holds in memory: torch, the weights once, and a cache that grows by copying."""

from typing import Any

from calibration.facts.memory import ServingMemory, WeightBytes

STACKED_EITHER_WAY = frozenset({"qwen3_5_moe", "qwen3_5_moe_text"})
"""Their published files have experts as one tensor of a layer (sgl-project/sglang-jax#1251 of Qwen3.5-35B-A3B), those
that transformers 5.23.0 writes have them one by one, and it reads both."""
STACKED_IN_FILE = STACKED_EITHER_WAY | {
    *("granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared"),
    *("aria", "aria_text", "gemma4", "gemma4_text", "gpt_oss", "hy_v4", "inkling_text", "inkling2_text", "jetmoe"),
    *("llama4", "llama4_text", "minimax_m3_vl_text", "qwen3_vl_moe", "qwen3_vl_moe_text", "zaya"),
}
"""Model types whose experts are one tensor of a layer in the file, so that transformers 5 stacks nothing: of these its
conversion_mapping.py merges no experts; files that it wrote of all but Gemma 4 and Qwen3-VL were looked at."""


def _memory(**more: Any) -> ServingMemory:
    """As measured: torch and transformers take half a GiB; a cache that is concatenated holds a quarter more.

    A tied embedding counts more than once, since the scores of its vocabulary are held, too.
    """
    common: dict[str, Any] = {
        "start_bytes": 503 << 20,
        "held": WeightBytes(layer=0.92, tied=1.25, expert=1.02),
        "unpacks": frozenset({"gguf"}),
        "whole_windows": False,
        "key_value": 1.25,
        "activation": 4.18,
        # An OLMoE of 0.3 B parameters held 1675 MiB, which is its experts twice.
        "stacked": 1.0,
        "stacked_in_file": STACKED_IN_FILE,
        "margin": 0.08,
    }
    return ServingMemory(**(common | more))


# The scores, in 16 bits, in float32 for the softmax, and what that gives: more than the MLP's activations ever are.
_EAGER: dict[str, Any] = {
    "start_bytes": 532 << 20,
    "held": WeightBytes(layer=1.06, tied=1.25),
    "key_value": 1.0,
    "score": 3.1,
    "activation": 1.0,
    "margin": 0.06,
}
# The file in 16 bits stays mapped until the last weight is float32.
_WIDENED: dict[str, Any] = {"loading": WeightBytes(layer=1.5, tied=1.5, apart=1.5), "margin": 0.04}

SERVING_MEMORY = {
    "sdpa": _memory(),
    "eager": _memory(**_EAGER),
    "sdpa-fp32": _memory(**_WIDENED),
    "eager-fp32": _memory(**(_EAGER | _WIDENED)),
}
"""Fitted to the launches of results/: seven models from 0.1 to 1.3 B parameters, in float32 and in bfloat16."""
