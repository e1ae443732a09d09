"""What ONNX Runtime GenAI holds in memory: a tied embedding twice, and keys and values in float32."""

from calibration.facts.memory import ServingMemory, WeightBytes

# A tied embedding is looked up in float32 and multiplied with as the head: two matrices. Its arena grows in steps, so
# that keys and values hold a third more. Fitted to the launches of results/: smollm2-135m, smollm2-360m, qwen2.5-0.5b,
# qwen3-0.6b and the first layers of llama-3.1-8b, whose embedding is not tied.
SERVING_MEMORY = {
    "fp32": ServingMemory(
        start_bytes=97 << 20, held=WeightBytes(tied=1.98), key_value=1.3, key_value_bits=32, activation=4.88
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
        start_bytes=126 << 20,
        held=WeightBytes(layer=1.03, tied=2.4, apart=2.6),
        key_value=1.17,
        key_value_bits=32,
        score=0.28,
        activation=2.1,
        margin=0.04,
    ),
}
