"""What vLLM holds in memory, as far as that was measured."""

from calibration.facts.memory import ServingMemory, WeightBytes

ON_A_CPU = ServingMemory(
    start_bytes=758 << 20,
    held=WeightBytes(layer=1.28, tied=2.9, apart=1.55, expert=0.97),
    key_value=3.37,
    expands_latent=False,
    activation=0.46,
    step_tokens=2048,
    room_ahead=True,
    margin=0.01,
)
"""Weights are packed anew for its kernels, and the KV cache that `load` asks for holds the largest batch twice. Fitted
to 45 launches of five models from 0.1 to 1.3 B parameters."""
