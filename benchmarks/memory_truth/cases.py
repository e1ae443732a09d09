"""What is measured: shapes of every kind that fit into a small machine, and workloads that tell the parts apart."""

from pathlib import Path

from calibration.workload import Workload

_OWN = Path(__file__).with_name("shapes")

MODELS = (
    "shape:smollm2-135m",
    "shape:gpt2",
    "shape:gemma-3-270m",
    str(_OWN / "mla-160m"),
    str(_OWN / "mixture-300m"),
    str(_OWN / "lfm2-350m"),
    "shape:smollm2-360m",
    "shape:qwen2.5-0.5b",
    "shape:qwen3-0.6b",
    "shape:llama-3.2-1b",
)
"""Llamas of two sizes; heads of their own (gpt2); windows (gemma-3); a latent cache (mla), experts (mixture),
convolutions beside attention (lfm2); few and many KV heads; and one that is larger than the others."""

HELD_OUT = (str(_OWN / "qwen2-90m"), str(_OWN / "llama-80m"))
"""Small ones for long contexts and batches, to which no fact was fitted: few KV heads and an embedding apart from the
head; a KV head for each head, and a tied embedding."""

WORKLOADS = (
    Workload(prompt_tokens=64, output_tokens=8, batch=1),
    Workload(prompt_tokens=960, output_tokens=8, batch=1),
    Workload(prompt_tokens=240, output_tokens=8, batch=8),
    Workload(prompt_tokens=3000, output_tokens=8, batch=1),
)
"""Next to no cache; prompts whose scores grow with their squares; and several sequences. Those that are longer than a
model's positions reach are left out."""


def name_of(model: str) -> str:
    """As lines and tables name it: those of ours without their folder."""
    return Path(model).name if Path(model).parent == _OWN else model
