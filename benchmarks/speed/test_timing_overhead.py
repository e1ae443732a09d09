"""What our worker's timing adds to transformers' own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from selector.planning.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 60

SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 32_000,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
"""Small, so that a step is short and an overhead of ours would show."""


def test_timing_overhead(benchmark: Any, planned: Plan, tmp_path: Path) -> None:
    shape, folder = tmp_path / "shape", tmp_path / "model"
    shape.mkdir()
    (shape / "config.json").write_text(json.dumps(SMALL))
    make = "import sys; from pathlib import Path; "
    make += "from calibration.checkpoints.random_weights import write_random_checkpoint as write"
    make += "; write(Path(sys.argv[1]), Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", make, str(shape), str(folder)], cwd=ROOT, check=True, capture_output=True)
    command = [
        sys.executable,
        "-m",
        "benchmarks.measuring.fidelity.plain_loop",
        str(folder),
        str(planned.host.cores),
        str(PAIRS),
    ]

    def compare() -> list[dict[str, Any]]:
        run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        told: list[dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])
        return told

    cells = benchmark.pedantic(compare, rounds=1)
    benchmark.extra_info |= {
        "what": "TTFT and TPOT of transformers:sdpa, ours over a plain loop",
        "target_ratio": 1.03,
        "cells": cells,
    }
