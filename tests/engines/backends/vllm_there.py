"""Runs in the interpreter that has vllm: load one folder, answer requests, a line of JSON each."""

import importlib.util
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[3] / "calibration"
spec = importlib.util.spec_from_file_location(
    "calibration", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
)
assert spec is not None and spec.loader is not None
sys.modules["calibration"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["calibration"])

from calibration.backend import Job  # noqa: E402
from calibration.backends.vllm.adapter import VllmBackend  # noqa: E402

folder = Path(sys.argv[1])
config = json.loads((folder / "config.json").read_text())
backend = VllmBackend()
engine = backend.load(
    Job(
        model_dir=folder,
        variant=backend.variant("eager"),
        artifact_dir=None,
        dtype=config["torch_dtype"],
        vocab_size=config["vocab_size"],
        device="cpu",
        threads=1,
        max_context_tokens=128,
        max_batch=3,
    )
)
for line in sys.stdin:
    request = json.loads(line)
    if request.pop("verb") == "generate":
        made = engine.generate(**request)
        answer = json.dumps({"tokens": made.tokens, "arrivals": made.arrivals})
    else:
        answer = json.dumps([list(row) for row in engine.score(**request) or ()])
    print("ANSWER", answer, flush=True)
