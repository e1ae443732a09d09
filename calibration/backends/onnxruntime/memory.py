"""What ONNX Runtime GenAI holds in memory: a tied embedding twice, and keys and values in float32."""

from calibration.facts.memory import ServingMemory, WeightBytes

# A tied embedding is looked up in float32 and multiplied with as the head: two matrices. A cache is allocated at once,
# and 1.3 to 1.4 times as much as it holds is seen.
# The arena grows in steps of twice the size, and keeps what a call left: activations hold 5 to 11 times what the MLP
# makes of the tokens (GroupQueryAttention computes by tiles, without scores). Fitted to the launches of results/:
# smollm2-135m, smollm2-360m, qwen2.5-0.5b, qwen3-0.6b and the first layers of llama-3.1-8b, whose embedding is not
# tied; the cache and the activations of fp32 to 4000 and 8000 tokens of qwen2-90m and llama-80m as well, of which up to
# 31 % too little had been said. One line of both describes all of these shapes within 14 %.
SERVING_MEMORY = {
    "fp32": ServingMemory(
        start_bytes=97 << 20, held=WeightBytes(tied=1.98), key_value=1.4, key_value_bits=32, activation=9.9
    ),
    "int8": ServingMemory(
        start_bytes=125 << 20,
        held=WeightBytes(layer=1.39, tied=4.24, apart=1.5),
        key_value=1.29,
        key_value_bits=32,
        activation=6.6,
        margin=0.02,
    ),
    "int4": ServingMemory(
        start_bytes=125 << 20,
        held=WeightBytes(layer=0.78, tied=2.0, apart=2.72),
        key_value=1.32,
        key_value_bits=32,
        activation=4.2,
        margin=0.02,
    ),
}
