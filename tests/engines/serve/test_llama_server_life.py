"""llama-server as the server of the front: its slots become free, it is killed, it is told to stop, nothing is left."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.llamacpp import own_server
from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.supervision.readings import group_runs
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Ask, Piece, Unavailable
from tests.engines.serve.llama_upstream import (
    busy_slots,
    converted,
    ended,
    pieces,
    run,
    upstream,
)
from tests.engines.served import until
from tests.engines.tiny_configs import CONFIGS

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
LONG_S = 60.0
"""Something that never happens has not happened by then; what happens takes a moment, and longer on a busy machine."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a .gguf file of a model that takes milliseconds a token, so that answers last."""
    root = tmp_path_factory.mktemp("slow")
    config = {
        **CONFIGS["llama"],
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "max_position_embeddings": 4096,
    }
    (root / "config").mkdir()
    (root / "config" / "config.json").write_text(json.dumps(config))
    write_random_checkpoint(root / "config", root / "slow")
    return converted(root / "slow")


async def begun(serving: OwnServerUpstream, **ask: Any) -> "asyncio.Task[list[Piece]]":
    """An answer whose first piece has come."""
    first = asyncio.Event()

    async def whole() -> list[Piece]:
        told = []
        async with aclosing(serving.answer(Ask(**ask))) as answer:
            async for piece in answer:
                told.append(piece)
                first.set()
        return told

    task = asyncio.create_task(whole())
    await asyncio.wait_for(first.wait(), LONG_S)
    return task


async def seconds_for(serving: OwnServerUpstream, tokens: int) -> float:
    """What an answer of so many tokens takes from now, on the machine as busy as it is."""
    began = time.monotonic()
    answer = await pieces(serving, prompt=(5, 6, 7), max_tokens=tokens, ignore_end=True)
    assert answer[-1].completion_tokens == tokens
    return time.monotonic() - began


def test_closing_an_answer_frees_its_slot(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        each_s = await seconds_for(serving, 40) / 40
        async with aclosing(serving.answer(Ask(prompt=(5, 6, 7), ignore_end=True))) as answer:
            await anext(answer)
            assert await busy_slots(serving) == [True]
        assert await seconds_for(serving, 2) < 2000 * each_s, "4000 tokens take much longer"
        # A slot is told free a moment after its answer has ended.
        async with asyncio.timeout(LONG_S):
            while await busy_slots(serving) != [False]:
                await asyncio.sleep(0.02)

    run(scenario, slow, tmp_path, slots=1, context_tokens=4000)


def test_a_request_that_waits_for_a_slot_can_be_cancelled(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        each_s = await seconds_for(serving, 40) / 40
        async with aclosing(serving.answer(Ask(prompt=(5, 6, 7), max_tokens=150, ignore_end=True))) as answer:
            await anext(answer)
            waiting = [asyncio.create_task(pieces(serving, prompt=(5,), max_tokens=3000)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert [piece async for piece in answer][-1].completion_tokens == 150
        assert await seconds_for(serving, 2) < 1500 * each_s, "one that waited takes 3000 tokens"

    run(scenario, slow, tmp_path, slots=1, context_tokens=4000)


def test_a_killed_server_is_told_and_can_be_started_again(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        answer = await begun(serving, prompt=(5, 6, 7), ignore_end=True)
        os.kill(serving.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="^llamacpp ended while it answered: "):
            await asyncio.wait_for(answer, LONG_S)
        assert await ended(serving) == "it was killed by SIGKILL"
        await serving.stop(0.0)
        await serving.start()
        assert (await pieces(serving, prompt=(5,), max_tokens=3, ignore_end=True))[-1].completion_tokens == 3

    run(scenario, slow, tmp_path, context_tokens=1000)


def test_it_stops_when_the_running_request_has_ended(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        answer = await begun(serving, prompt=(5, 6, 7), max_tokens=100, ignore_end=True)
        await serving.stop(600.0)
        assert (await answer)[-1].completion_tokens == 100
        assert await ended(serving) == "it ended with exit code 0"

    run(scenario, slow, tmp_path)


def test_an_idle_one_stops_at_once(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        began = time.monotonic()
        await serving.stop(600.0)
        assert time.monotonic() - began < LONG_S, "it waits for nothing"
        assert await ended(serving) == "it ended with exit code 0"

    run(scenario, converted(tiny("llama")), tmp_path)


def test_what_is_no_model_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(Unavailable, match=r"(?s)^it ended with exit code 1\n.*model\.gguf"):
        asyncio.run(upstream(tmp_path, tmp_path).start())


def test_nothing_is_left_of_it_when_we_are_killed(slow: Path, tmp_path: Path) -> None:
    program = (
        "import asyncio, os, pathlib, sys\n"
        "from tests.engines.serve.llama_upstream import pieces, upstream\n"
        "async def main():\n"
        "    serving = upstream(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "    await serving.start()\n"
        "    answer = asyncio.create_task(pieces(serving, prompt=(5, 6, 7), ignore_end=True))\n"
        "    print(os.getpgid(serving.pid), flush=True)\n"
        "    await answer\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(slow), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as starter:
        assert starter.stdout is not None
        group = int(starter.stdout.readline())
        assert group_runs(group)
        starter.kill()
        starter.wait()
        until(lambda: not group_runs(group), LONG_S)


def test_by_itself_it_ends_with_the_process_that_started_it(tiny: Folder, tmp_path: Path) -> None:
    """Without our watchdog, too: whoever starts it by hand leaves nothing behind."""
    file = converted(tiny("llama")) / "model.gguf"
    program = (
        "import subprocess, sys, time\n"
        "server = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)\n"
        "print(server.pid, server.stdout.readline(), flush=True)\n"
        "time.sleep(3600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, own_server.__file__, str(file), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        pid, said = starter.stdout.readline().split(maxsplit=1)
        assert said.startswith("llama-server listens on http://127.0.0.1:")
        starter.kill()
        starter.wait()
        until(lambda: not _runs(int(pid)), LONG_S)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
