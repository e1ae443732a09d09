"""The first layers of a model of the hub (here: a small real HTTP server): only files that hold them are fetched."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.selector.model.files.test_hub import COMMIT, Hub

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 12,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 2048,
    "torch_dtype": "float16",
}
MATRIX = np.ones((16, 8), np.float16)
SHARDS = {
    "first.safetensors": {f"model.layers.{layer}.up_proj.weight": MATRIX for layer in range(6)},
    "later.safetensors": {f"model.layers.{layer}.up_proj.weight": MATRIX for layer in range(6, 12)},
    "ends.safetensors": {"model.embed_tokens.weight": MATRIX},
}
CODE = """
import sys
from calibration.conversion.store import ArtifactStore
from calibration.events import Silent
from calibration.rung import Rung
from selector.planning.plan import plan
from selector.planning.subject import subject_at
from selector.planning.weights import launchable_rungs
planned = plan("owner/model", backends=["transformers"])
print([rung.layers for rung in launchable_rungs(planned.spec, random_weights=False)])
subject = subject_at(planned, Rung(layers=2, of=12), ArtifactStore(), Silent())
print(subject.identity.cut, sorted(file.name for file in subject.model_dir.iterdir()))
"""


class WholeHub(Hub):
    """A hub that gives all that it has."""

    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "pytorch_model.bin": b"pickles",
        "model.safetensors.index.json": json.dumps(
            {"metadata": {"total_size": 4000}, "weight_map": {n: s for s, tensors in SHARDS.items() for n in tensors}}
        ).encode(),
        **{name: save(tensors) for name, tensors in SHARDS.items()},
    }
    sizes: dict[str, int] = {}

    def do_GET(self) -> None:  # noqa: N802  as http.server calls it
        # A download asks for the revision and for the list of files as well.
        if self.path.startswith(f"/api/models/owner/model/tree/{COMMIT}"):
            files = [{"type": "file", "path": n, "size": len(raw), "oid": n} for n, raw in self.files.items()]
            self.answer(200, json.dumps(files).encode(), {"Content-Type": "application/json"})
            return
        self.path = self.path.replace("/api/models/owner/model/revision/main", "/api/models/owner/model")
        super().do_GET()


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), WholeHub)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_the_files_of_the_first_layers_are_downloaded(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    environment = {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "AUTOBACKEND_ARTIFACTS": str(tmp_path / "artifacts"),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.stdout.splitlines() == [
        "[2, 4, 12]",
        "2/12 ['config.json', 'model.safetensors', 'tokenizer.json']",
    ], done.stderr
    [snapshot] = (tmp_path / "home" / "hub").glob(f"models--owner--model/snapshots/{COMMIT}")
    assert sorted(file.name for file in snapshot.iterdir()) == [
        *("config.json", "ends.safetensors", "first.safetensors", "model.safetensors.index.json", "tokenizer.json")
    ]
