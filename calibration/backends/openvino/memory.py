"""What OpenVINO GenAI holds in memory: the weights of the graph's file, and beside them those that it packs anew."""

from calibration.memory import ServingMemory, WeightBytes

# The CPU plugin packs weights for its kernels while the file stays mapped, so that layers count about twice; without
# paged attention a tied embedding counts twice as well. Fitted to 190 launches of seven models, of a CPU with
# AVX512_BF16, two of them in float32: gpt2, and granite-3.0-1b-a400m for the experts. Without such instructions fp16
# held 0.9 to 1.23 times as much (smollm2-135m and qwen2.5-0.5b on an Ice Lake and a Zen 3).
SERVING_MEMORY = {
    "fp16-pa": ServingMemory(
        start_bytes=175 << 20,
        held=WeightBytes(layer=2.18, tied=1.05, apart=1.3, expert=2.34),
        widened=1.1,
        key_value=1.62,
        key_value_bits=16,
        score=0.16,
        activation=4.3,
    ),
    "fp16-sdpa": ServingMemory(
        start_bytes=130 << 20,
        held=WeightBytes(layer=1.85, tied=2.33, apart=1.78, expert=2.35),
        widened=1.1,
        key_value=2.91,
        key_value_bits=16,
        activation=4.57,
    ),
    "fp32-pa": ServingMemory(
        start_bytes=172 << 20,
        held=WeightBytes(layer=2.3, tied=2.0, apart=2.0, expert=2.34),
        key_value=1.6,
        score=0.16,
        activation=4.3,
    ),
    "fp32-sdpa": ServingMemory(
        start_bytes=130 << 20,
        held=WeightBytes(layer=2.2, tied=2.33, apart=2.0, expert=2.35),
        key_value=2.0,
        activation=4.57,
    ),
    "int8-pa": ServingMemory(
        start_bytes=170 << 20,
        held=WeightBytes(layer=1.92, tied=2.0, apart=1.57, expert=3.1),
        key_value=1.18,
        score=0.4,
        activation=1.91,
    ),
    "int8-sdpa": ServingMemory(
        start_bytes=185 << 20,
        held=WeightBytes(layer=2.07, tied=3.5, apart=2.16, expert=3.4),
        key_value=1.93,
        score=0.19,
    ),
    "int4-pa": ServingMemory(
        start_bytes=165 << 20,
        held=WeightBytes(layer=1.45, tied=1.78, apart=1.53, expert=2.2),
        key_value=0.75,
        score=0.81,
        activation=0.57,
    ),
    "int4-sdpa": ServingMemory(
        start_bytes=166 << 20,
        held=WeightBytes(layer=1.35, tied=3.3, apart=2.02, expert=2.45),
        key_value=1.1,
        score=0.66,
    ),
}
