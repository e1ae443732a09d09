"""Hub ids: huggingface_hub's cache first, then a hub (here: a small real HTTP server), never weights."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.selector.model.model_folders import GOLDEN

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (GOLDEN / "gptq-8bit-g128-qwen2" / "config.json").read_bytes()
INDEX = json.dumps({"metadata": {"total_size": 7}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}).encode()
CODE = """
import sys
from calibration.errors import ModelError
from selector.model.spec import ModelSpec
try:
    spec = ModelSpec.read(sys.argv[1])
    print(spec.name, spec.architecture, spec.quant.label, spec.has_weights, spec.weight_bytes, spec.weights_identity)
except ModelError as error:
    print(error)
"""


def read(model: str, home: Path, **environment: str) -> str:
    """What a process with its own cache reads: huggingface_hub reads its environment when it is imported."""
    env = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "0"} | environment
    done = subprocess.run([sys.executable, "-c", CODE, model], capture_output=True, text=True, check=True, env=env)
    return done.stdout


def cached(home: Path, model: str, **files: bytes) -> None:
    """A snapshot as huggingface_hub keeps it."""
    repository = home / "hub" / f"models--{model.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    for name, raw in files.items():
        (repository / "snapshots" / COMMIT / name.replace("__", ".")).write_bytes(raw)


class Hub(BaseHTTPRequestHandler):
    """The three requests that are made of a hub, for one model with two files of weights that it never gives away."""

    files: dict[str, bytes] = {"config.json": CONFIG, "model.safetensors.index.json": INDEX}
    sizes: dict[str, int] = {"1.safetensors": 3000, "2.safetensors": 4000}
    requests: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append(path)  # type: ignore[attr-defined]
        name = path.rpartition("/")[2]
        if path == "/api/models/owner/model":
            sizes = {name: len(raw) for name, raw in self.files.items()} | self.sizes
            siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
            self.answer(200, json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith("/owner/model/resolve/") and name in self.files:
            self.answer(200, self.files[name], {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'})
        elif path.startswith("/api/models/owner/gated"):
            self.answer(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        else:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Tests print nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_cached_snapshot_needs_no_network(tmp_path: Path) -> None:
    cached(tmp_path, "owner/model", config__json=CONFIG, model__safetensors=b"w" * 500)
    said = read("owner/model", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert said == f"owner/model Qwen2ForCausalLM gptq-8bit-g128 True 500 {COMMIT}\n"


def test_cached_index_tells_the_size_of_weights_that_are_not_here(tmp_path: Path) -> None:
    cached(tmp_path, "owner/model", config__json=CONFIG, model__safetensors__index__json=INDEX)
    said = read("owner/model", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert said == f"owner/model Qwen2ForCausalLM gptq-8bit-g128 True 7 {COMMIT}\n"


def test_cached_config_alone_is_enough_when_offline(tmp_path: Path) -> None:
    cached(tmp_path, "gpt2", config__json=CONFIG)
    offline = read("gpt2", tmp_path, HF_HUB_OFFLINE="1")
    unreachable = read("gpt2", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert offline == unreachable
    assert offline.startswith("gpt2 Qwen2ForCausalLM gptq-8bit-g128 False ")


def test_offline_and_not_in_the_cache(tmp_path: Path) -> None:
    assert read("owner/model", tmp_path, HF_HUB_OFFLINE="1") == (
        f"there is no folder 'owner/model' here, it is not in {tmp_path}/hub, and HF_HUB_OFFLINE is set\n"
        "give the folder of a model, unset HF_HUB_OFFLINE, or name a shape: shape:qwen2.5-0.5b\n"
    )


def test_no_network(tmp_path: Path) -> None:
    said = read("owner/model", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    first, second = said.splitlines()
    assert first.startswith("there is no folder 'owner/model' here, and the hub cannot be reached: ")
    assert second == "give the folder of a model, connect to the network, or name a shape: shape:qwen2.5-0.5b"


def test_hub_gives_config_and_sizes_and_no_weights(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    said = read("owner/model", tmp_path, HF_ENDPOINT=endpoint)
    assert said == f"owner/model Qwen2ForCausalLM gptq-8bit-g128 True 7000 {COMMIT}\n"
    asked = list(hub.seen)  # type: ignore[attr-defined]
    assert not [path for path in asked if path.endswith(".safetensors")]
    # The second time the cache answers.
    read("owner/model", tmp_path, HF_ENDPOINT=endpoint)
    assert hub.seen == asked  # type: ignore[attr-defined]


def test_model_that_the_hub_does_not_have(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    assert read("owner/other", tmp_path, HF_ENDPOINT=endpoint) == (
        "there is no folder 'owner/other' here and no model 'owner/other' on the hub (or it is private)\n"
        "check the name; for a private model: hf auth login\n"
    )


def test_gated_model(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    assert read("owner/gated", tmp_path, HF_ENDPOINT=endpoint) == (
        "owner/gated is gated on the hub\nask for access there, then: hf auth login\n"
    )
