"""What OpenVINO GenAI holds in memory: the graph's file, the weights that it packs anew, and what each layer takes."""

from dataclasses import replace
from typing import Any

from calibration.facts.memory import ServingMemory, WeightBytes

COMPUTES_IN_16_BITS = frozenset({"amx_bf16", "avx512_bf16", "avx512_fp16", "bf16", "fp16"})
"""On a CPU with any of these features activations are bfloat16, on others float32."""

_FLOATS = WeightBytes(layer=2.0, tied=2.0, apart=1.5)
_WEIGHTS = {
    "fp16": _FLOATS,
    "fp32": _FLOATS,
    # A scale for each row.
    "int8": WeightBytes(layer=2.03, tied=2.0, apart=1.5),
    # Groups of 128 have a scale and a zero point: of 16 and 4 bits in the file, of 32 bits each in memory.
    "int4": WeightBytes(layer=1.09, tied=2.0, apart=1.5),
}
"""By the CPU plugin's code: it packs what it multiplies with for its kernels, once (prepareWeightMemory; of experts
GatherMatmul::createPrimitive), while the file stays mapped. An embedding is looked up in the file, and the head is
packed. With int4 both have 8 bits."""
_WEIGHT_BYTES = {"fp16": 2, "fp32": 4, "int8": 1, "int4": 1}

_LAYER_BYTES = int(2.75 * (1 << 20))
"""Of smollm2-135m 30 layers and 3 of them were launched: a layer takes so much more than its weights and its cache."""
_LATENT_LAYER_BYTES = int(3.8 * (1 << 20))
"""By the graphs that the CPU plugin compiles (2026.4.1, get_runtime_model): 66 nodes in a layer of Llama, 157 in one of
DeepSeek V3."""


def _memory(precision: str, wide: float, **more: Any) -> ServingMemory:
    """What both schedulers have in common.

    Attention is computed by blocks of a prompt (scaled_attn.cpp, executor_pa.cpp), so that the scores of all its tokens
    are never there; but where keys are wider than values, as with MLA, it is products and a softmax in the compiled
    graph. The products with chosen experts hold each token for each of its experts, and more.

    Args:
        wide: copies of activations more where they have 32 bits: in float32, and of all weights on some CPUs.
    """
    activation = 2.65
    common: dict[str, Any] = {"layer_bytes": _LAYER_BYTES, "held": _WEIGHTS[precision], "margin": 0.02}
    common |= {"expert_activation": 9.0, "latent_layer_bytes": _LATENT_LAYER_BYTES, "latent_score": 2.0}
    if precision == "fp32":
        common |= {"activation": activation + wide}
    else:
        common |= {"activation": activation, "wide_activation": wide, "narrow_features": COMPUTES_IN_16_BITS}
    return ServingMemory(**(common | more))


def _paged(precision: str, **more: Any) -> ServingMemory:
    """With int8 and int4 the numbers of the cache have 8 bits."""
    key_value = 1.5 if precision in {"fp16", "fp32"} else 1.03
    own = {"start_bytes": 140 << 20, "check_bytes": 12 << 20, "key_value": key_value}
    return _memory(precision, 2.95, **(own | more))


def _stateful(precision: str, **more: Any) -> ServingMemory:
    """Without paged attention the graph makes a mask, of booleans and of numbers: by prompts of 4000 tokens.

    A check compiles the graph a second time, after the pipeline went: first launches held more than the next ones.
    Three quarters of a byte for each number of an embedding were held besides, whatever the precision.
    """
    of_embedding = 0.75 / _WEIGHT_BYTES[precision]
    weights = _WEIGHTS[precision]
    own: dict[str, Any] = {
        "start_bytes": 117 << 20,
        "check_bytes": 61 << 20,
        "held": replace(weights, tied=weights.tied + of_embedding, apart=weights.apart + of_embedding / 2),
        "key_value": 1.14,
        "mask": 2.0,
    }
    return _memory(precision, 4.5, **(own | more))


SERVING_MEMORY = {
    # Where the CPU computes in float32, some launches held the layers in float32 beside the file, and others did not.
    "fp16-pa": _paged("fp16", widened=1.3),
    "fp32-pa": _paged("fp32"),
    "int8-pa": _paged("int8"),
    "int4-pa": _paged("int4"),
    "fp16-sdpa": _stateful("fp16"),
    "fp32-sdpa": _stateful("fp32", check_weights=0.04),
    "int8-sdpa": _stateful("int8", check_weights=0.02),
    "int4-sdpa": _stateful("int4", check_weights=0.15),
}
"""Start, layers, activations, cache and check are fitted to 266 launches of results/: eight models, of three of them
their first layers as well, on CPUs with AVX512_BF16, without it, and with AVX2 alone; of all precisions at once."""

SCALED_EMBEDDINGS = frozenset(
    {
        *("gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text"),
        *("gemma4_unified", "gemma4_unified_text", "diffusion_gemma", "vaultgemma", "minicpm3", "biogpt", "xglm"),
        *("bart", "bigbird_pegasus", "blenderbot", "m2m_100", "mbart", "nllb-moe", "pegasus_x", "plbart", "trocr"),
    }
)
"""Model types whose embeddings are a class that scales what it looks up (transformers 5.23.0, *ScaledWordEmbedding)."""
