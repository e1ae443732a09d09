"""What `select --emit` starts, started: the command of llama-swap's entry serves a real engine."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from calibration.backends.llamacpp import own_server
from calibration.cache.cache import Cache
from calibration.registry import find
from selector.emit.targets import find_target
from selector.selection import choose
from tests.engines import tiny_models
from tests.engines.printed_commands import free_port, served
from tests.engines.serve import llama_server
from tests.selector.emit.emitting import chosen, convert

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


def test_the_command_of_llama_swap_serves(tiny: Callable[..., Path], tmp_path: Path, cache: Cache) -> None:
    """llama-swap puts the port in and asks at it under the model's id."""
    folder = shutil.copytree(tiny("llama"), tmp_path / "Tiny Chat-1.5")
    selection = choose(folder, backend="transformers:sdpa", cache=cache, workload="pp16:tg8:b2")
    [(name, entry)] = yaml.safe_load(find_target("llama-swap").write(selection).text)["models"].items()
    port = free_port()
    command = entry["cmd"].replace("${PORT}", str(port))
    with served(command, port, tmp_path) as server:
        assert [model["id"] for model in server.ask("/v1/models")["data"]] == [name]
        answer = server.ask("/v1/completions", {"model": name, "prompt": [5, 6, 7], "max_tokens": 4})
    assert answer["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("variant", ["f16", "f32"])
def test_llama_servers_own_parser_takes_its_words_and_it_serves_by_them(
    variant: str, tiny: Callable[..., Path], tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is told is what a calibration loads, as far as that is about the model and not about measuring."""
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "artifacts"))
    folder = tiny("llama")
    tiny_models.load(find("llamacpp"), variant, folder).close()
    gguf = (folder.parent / f"{folder.name}-llamacpp-{variant}" / "model.gguf").read_bytes()
    selection = chosen(folder, f"llamacpp:{variant}", cache, workload="pp16:tg8:b3")
    file = convert(selection, gguf)
    words = shlex.split(find_target("llama-server").write(selection).text)
    ran = subprocess.run(
        [sys.executable, llama_server.__file__, *words], capture_output=True, text=True, timeout=120, check=False
    )
    told = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
    assert told, ran.stderr[-3000:]
    answer = json.loads(told[0].removeprefix("ANSWER "))
    as_measured = own_server.settings(str(file), slots=3, context_tokens=24, float32=variant == "f32")
    as_measured.cpuparams.n_threads = as_measured.cpuparams_batch.n_threads = selection.host.cores
    assert answer == {"words": llama_server.told(as_measured), "tokens": 4}


def test_llama_servers_parser_refuses_what_it_does_not_know() -> None:
    words = ["--model", "model.gguf", "--slots-at-once", "3"]
    ran = subprocess.run([sys.executable, llama_server.__file__, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "--slots-at-once" in ran.stderr
