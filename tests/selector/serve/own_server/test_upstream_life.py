"""The upstream over an engine's own server, started, killed and stopped: nothing of it is left."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.engine.streams import Ability, Finish
from calibration.supervision.readings import group_runs
from selector.serve.keep.keeper import Refusing
from selector.serve.upstream import Ask, Piece, Unavailable
from tests.selector.serve.own_server.odd_upstream import PLACE, SCRIPT, ended, ending, pieces, started, until, upstream


class TestLife:
    def test_it_tells_what_it_can(self, tmp_path: Path) -> None:
        serving = upstream(tmp_path)
        assert serving.abilities == frozenset({Ability.TEMPERATURE, Ability.TOP_P})
        assert (serving.context_tokens, serving.ready) == (64, False)

    def test_before_its_start_and_after_its_end_it_is_not_there(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            serving = upstream(tmp_path)
            await serving.stop(1.0)
            with pytest.raises(Unavailable, match="^odd does not run$"):
                await pieces(serving)
            await serving.start()
            assert serving.ready
            await serving.stop(5.0)
            assert (serving.ready, ending(serving)) == (False, "it was killed by SIGTERM")
            with pytest.raises(Unavailable, match="^odd does not run$"):
                await pieces(serving)

        asyncio.run(scenario())

    def test_one_that_dies_at_its_start_is_told_at_once_with_its_reason(self, tmp_path: Path) -> None:
        (tmp_path / "server.log").write_text("what an earlier program printed\n")
        began = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            asyncio.run(upstream(tmp_path, "dies", load_s=60).start())
        lines = raised.value.message.splitlines()
        assert (lines[0], lines[1][:5], lines[2:]) == ("it ended with exit code 3", "dies,", ["there is no such model"])
        assert not isinstance(raised.value, Refusing)
        assert time.monotonic() - began < 10

    @pytest.mark.parametrize("habit", ["never-ready", "deaf"])
    def test_one_that_is_never_ready_is_killed(
        self, habit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("selector.serve.own_server.upstream.PROBE_S", 0.5)
        with pytest.raises(Unavailable, match=rf"^it was not ready within 1.5 s\n{habit}, bound to "):
            asyncio.run(upstream(tmp_path, habit, load_s=1.5).start())
        assert not _processes_of(SCRIPT, habit)

    def test_a_start_that_is_cancelled_leaves_nothing(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            starting = asyncio.create_task(upstream(tmp_path, "never-ready").start())
            await asyncio.sleep(0.5)
            assert _processes_of(SCRIPT, "never-ready")
            starting.cancel()
            await asyncio.wait({starting})
            assert starting.cancelled() and not _processes_of(SCRIPT, "never-ready")

        asyncio.run(scenario())

    def test_an_interpreter_that_is_not_there(self, tmp_path: Path) -> None:
        python = tmp_path / "no" / "python"
        with pytest.raises(Refusing) as raised:
            asyncio.run(upstream(tmp_path, python=python).start())
        assert raised.value.message == f"{python} cannot be started: No such file or directory"

    def test_death_within_an_answer_is_told_and_it_can_be_started_again(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                first = serving.pid
                async with aclosing(serving.answer(Ask(prompt="dies"))) as answer:
                    assert await anext(answer) == Piece(text="one")
                    with pytest.raises(Unavailable, match="^odd ended while it answered: "):
                        await anext(answer)
                assert await ended(serving) == "it was killed by SIGKILL"
                assert not serving.ready
                await serving.stop(0.0)
                await serving.start()
                assert serving.pid != first and len(await pieces(serving)) == 3

        asyncio.run(scenario())

    def test_death_between_answers_is_noticed(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, "parent") as serving:
                group = os.getpgid(serving.pid)
                os.kill(serving.pid, signal.SIGKILL)
                assert await ended(serving) == "it was killed by SIGKILL"
                assert not serving.ready and not group_runs(group)

        asyncio.run(scenario())

    def test_one_that_takes_more_memory_than_it_may_is_killed(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, memory_limit_bytes=300 << 20) as serving:
                await asyncio.sleep(2.5)
                assert serving.ready
                with pytest.raises(Unavailable, match="^odd ended while it answered: "):
                    await pieces(serving, "grows")
                reason = r"it was killed: it reached 0\.[3-9] GiB of memory; 0\.3 GiB are allowed"
                assert re.fullmatch(reason, await ended(serving))

        asyncio.run(scenario())

    def test_its_children_end_with_it(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, "parent"):
                child = int((tmp_path / "server.log").read_text().rpartition("child ")[2])
                assert Path(f"/proc/{child}").exists()
            assert await asyncio.to_thread(until, lambda: not _runs(child))

        asyncio.run(scenario())

    def test_stopping_waits_for_requests_that_run(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                running = asyncio.create_task(pieces(serving, "lasts", max_tokens=30))
                await asyncio.sleep(0.1)
                stopping = asyncio.create_task(serving.stop(20.0))
                await asyncio.sleep(0.1)
                assert not serving.ready and not stopping.done()
                with pytest.raises(Unavailable, match="^odd does not run$"):
                    await pieces(serving)
                assert (await running)[-1].finish is Finish.STOP
                await asyncio.wait_for(stopping, 5)
                assert ending(serving) == "it was killed by SIGTERM"

        asyncio.run(scenario())

    def test_what_takes_longer_than_the_grace_is_cut(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, "stubborn") as serving:
                running = asyncio.create_task(pieces(serving, "lasts"))
                await asyncio.sleep(0.2)
                began = time.monotonic()
                await serving.stop(0.5)
                assert time.monotonic() - began < 3
                assert ending(serving) == "it was killed by SIGKILL"
                with pytest.raises(Unavailable, match="^odd ended while it answered: "):
                    await running

        asyncio.run(scenario())

    def test_stopping_may_be_cut_short(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                running = asyncio.create_task(pieces(serving, "lasts"))
                await asyncio.sleep(0.2)
                stopping = asyncio.create_task(serving.stop(60.0))
                await asyncio.sleep(0.1)
                stopping.cancel()
                await asyncio.wait({stopping}, timeout=5)
                assert ending(serving) == "it was killed by SIGKILL"
                with pytest.raises(Unavailable):
                    await running

        asyncio.run(scenario())

    def test_it_is_bound_to_its_cores_and_has_its_threads(self, tmp_path: Path) -> None:
        ours = os.sched_getaffinity(0)
        core = max(ours)

        async def scenario() -> None:
            async with started(tmp_path, place=replace(PLACE, cpus=(core,))):
                pass

        asyncio.run(scenario())
        assert f"bound to [{core}], 1 threads" in (tmp_path / "server.log").read_text()
        assert os.sched_getaffinity(0) == ours

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_nothing_is_left_when_we_are_killed(self, number: signal.Signals, tmp_path: Path) -> None:
        program = (
            "import asyncio, os, pathlib, sys\n"
            "from tests.selector.serve.own_server.odd_upstream import upstream\n"
            "async def main():\n"
            "    serving = upstream(pathlib.Path(sys.argv[1]), 'parent')\n"
            "    await serving.start()\n"
            "    print(os.getpgid(serving.pid), flush=True)\n"
            "    await asyncio.sleep(3600)\n"
            "asyncio.run(main())\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        ) as starter:
            assert starter.stdout is not None
            group = int(starter.stdout.readline())
            assert group_runs(group)
            starter.send_signal(number)
            starter.wait()
            assert until(lambda: not group_runs(group))


def _processes_of(script: Path, habit: str) -> list[int]:
    living = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(script).encode() in words and habit.encode() in words:
            living.append(int(line.parent.name))
    return living


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
