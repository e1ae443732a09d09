"""What `select --emit` starts, started: the command of llama-swap's entry serves a real engine."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from calibration.cache.cache import Cache
from selector.emit.targets import TARGETS
from selector.selection import choose
from tests.engines.printed_commands import free_port, served

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


def test_the_command_of_llama_swap_serves(tiny: Callable[..., Path], tmp_path: Path, cache: Cache) -> None:
    """llama-swap puts the port in and asks at it under the model's id."""
    folder = shutil.copytree(tiny("llama"), tmp_path / "Tiny Chat-1.5")
    selection = choose(folder, backend="transformers:sdpa", cache=cache, workload="pp16:tg8:b2")
    [(name, entry)] = yaml.safe_load(TARGETS["llama-swap"].write(selection).text)["models"].items()
    port = free_port()
    command = entry["cmd"].replace("${PORT}", str(port))
    with served(command, port, tmp_path) as server:
        assert [model["id"] for model in server.ask("/v1/models")["data"]] == [name]
        answer = server.ask("/v1/completions", {"model": name, "prompt": [5, 6, 7], "max_tokens": 4})
    assert answer["usage"]["completion_tokens"] == 4
