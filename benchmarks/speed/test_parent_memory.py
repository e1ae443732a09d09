"""The parent of a calibration holds no model, whatever the engine does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

WIDE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "dtype": "bfloat16",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
"""Few layers, for speed, and a large vocabulary, whose score rows the correctness check has to compare."""

CODE = """
import sys
from pathlib import Path
from selector.cli import main
try:
    main(sys.argv[1:])
finally:
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) * 1024, file=sys.stderr)
"""


def test_memory_of_the_parent(benchmark: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(WIDE))
    options = ["--random-weights", "--rounds", "1", "--workload", "pp64:tg16:b1", "--cache", str(tmp_path / "cache.db")]
    command = [sys.executable, "-c", CODE, "calibrate", str(tmp_path), *options]

    def calibrate() -> int:
        run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return int(run.stderr.split()[-1])

    peak = benchmark.pedantic(calibrate, rounds=1)
    benchmark.extra_info |= {
        "what": "peak memory of the parent of a calibration",
        "value_bytes": peak,
        "target_bytes": 200 << 20,
    }
