"""The upstream over an engine's own server, started, asked, killed and stopped: a small server that misbehaves."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.server import OwnServer, ServerPlace
from calibration.streams import Ability, Finish
from calibration.supervision.readings import group_runs
from selector.serve.keep.keeper import Refusing
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Ask, Failed, Piece, Refused, Unavailable

SCRIPT = Path(__file__).with_name("odd_server.py")
PLACE = ServerPlace(port=0, context_tokens=64, slots=2, threads=1)


def upstream(folder: Path, habit: str = "", *, count_path: str = "", **changes: Any) -> OwnServerUpstream:
    def describe(place: ServerPlace) -> OwnServer:
        return OwnServer(
            argv=(str(SCRIPT), str(place.port), habit),
            variables={"ODD_KEY": place.key},
            count_path=count_path,
            parameters=frozenset({"temperature", "top_p", "stop"}),
        )

    wanted: dict[str, Any] = {
        "name": "odd",
        "place": PLACE,
        "python": Path(sys.executable),
        "log": folder / "server.log",
        "vocab_size": 100,
    }
    return OwnServerUpstream(describe, **(wanted | changes))


@asynccontextmanager
async def started(folder: Path, habit: str = "", **changes: Any) -> AsyncIterator[OwnServerUpstream]:
    """A server that is killed at the end; nothing of its group is left then."""
    serving = upstream(folder, habit, **changes)
    await serving.start()
    group = os.getpgid(serving.pid)
    try:
        yield serving
    finally:
        await serving.stop(0.0)
        assert not group_runs(group)


async def pieces(serving: OwnServerUpstream, prompt: str | tuple[int, ...] = "well", **ask: Any) -> list[Piece]:
    async with aclosing(serving.answer(Ask(prompt=prompt, **ask))) as answer:
        return [piece async for piece in answer]


async def ended(serving: OwnServerUpstream) -> str:
    """How it ended, within 5 s."""
    await asyncio.wait_for(serving.ended.wait(), 5)
    return ending(serving)


def ending(serving: OwnServerUpstream) -> str:
    assert serving.ended.is_set()
    return serving.ending.splitlines()[0]


def ask_once(folder: Path, prompt: str | tuple[int, ...], **ask: Any) -> list[Piece]:
    async def scenario() -> list[Piece]:
        async with started(folder) as serving:
            return await pieces(serving, prompt, **ask)

    return asyncio.run(scenario())


def until(happened: Callable[[], bool], within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)
    return happened()


class TestAnswers:
    def test_text_comes_as_it_is_told_and_the_counts_at_the_end(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, "well") == [
            Piece(text="one "),
            Piece(text="two"),
            Piece(finish=Finish.LENGTH, prompt_tokens=3, completion_tokens=2),
        ]

    def test_counts_and_finish_may_come_with_the_last_text(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, "all in the last") == [
            Piece(text="one"),
            Piece(text=" two"),
            Piece(finish=Finish.STOP, prompt_tokens=3, completion_tokens=4),
        ]

    def test_an_event_may_come_in_parts(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, "split")[0] == Piece(text="né 🙂")

    def test_token_ids_are_a_prompt(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, (5, 6, 7))[-1].completion_tokens == 2

    def test_the_environments_proxy_is_not_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        assert len(ask_once(tmp_path, "well")) == 3

    def test_each_request_has_a_connection_of_its_own(self, tmp_path: Path) -> None:
        ask_once(tmp_path, "well")
        assert "connection: close" in (tmp_path / "server.log").read_text()

    @pytest.mark.parametrize(
        ("prompt", "kind", "message"),
        [
            ("hangs up", Unavailable, "odd ended while it answered: .*incomplete chunked read.*"),
            ("ends early", Failed, "odd ended an answer without an end of it"),
            ("aborts", Failed, "odd ended an answer with 'abort'"),
            ("malformed", Failed, re.escape("odd sent what is no part of an answer: '{\"choices\": ['")),
            ("of another kind", Failed, re.escape('odd sent what is no part of an answer: \'{"object": "what?"}\'')),
            ("no stream", Failed, "odd sent what is no stream of events: Expected response with content type .*"),
            ("breaks", Failed, "odd answered with status 500: the kernel says no"),
            ("breaks without json", Failed, "odd answered with status 500: <!DOCTYPE HTML>.*"),
            ("is busy", Unavailable, "odd takes no requests now: loading model"),
            ("refuses", Refused, r"request \(300 tokens\) exceeds the context \(256 tokens\)"),
            ("refuses barely", Refused, "temperature must be a number"),
            ("refuses late", Refused, "too long"),
            ("fails late", Failed, "odd failed: out of memory"),
        ],
    )
    def test_what_goes_wrong(self, prompt: str, kind: type[Exception], message: str, tmp_path: Path) -> None:
        """And the next request is answered."""

        async def scenario() -> None:
            code = "context_length_exceeded" if prompt == "refuses" else None
            async with started(tmp_path) as serving:
                with pytest.raises(kind, match=rf"(?s)^{message}$") as raised:
                    await pieces(serving, prompt)
                if isinstance(raised.value, Refused):
                    assert (raised.value.status, raised.value.code) == (400, code)
                assert serving.ready and len(await pieces(serving, "well")) == 3

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("prompt", "ask", "message", "parameter"),
        [
            ("well", {"temperature": 1.0, "seed": 1}, "odd has no `seed` as it is served here; leave it out", "seed"),
            ("well", {"logprobs": 1}, "odd has no `logprobs` as it is served here; leave it out", "logprobs"),
            (
                (1,) * 60,
                {"max_tokens": 5},
                "this model's context holds 64 tokens; asked are 60 of the prompt and 5 of the answer",
                "prompt",
            ),
            (
                (1,) * 64,
                {},
                "this model's context holds 64 tokens; asked are 64 of the prompt and 1 of the answer",
                "prompt",
            ),
            ((5, 100), {}, "token 100 is not in this model's vocabulary, which has 100 tokens", "prompt"),
            ((5, -1), {}, "token -1 is not in this model's vocabulary, which has 100 tokens", "prompt"),
        ],
    )
    def test_what_is_refused_unasked(
        self, prompt: Any, ask: dict[str, Any], message: str, parameter: str, tmp_path: Path
    ) -> None:
        with pytest.raises(Refused) as raised:
            ask_once(tmp_path, prompt, **ask)
        assert (raised.value.message, raised.value.status, raised.value.parameter) == (message, 400, parameter)

    def test_the_limit_of_a_text_is_counted_where_the_server_has_another(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, count_path="/count") as serving:
                assert (await pieces(serving, "tells its limit"))[0].text == str(64 - len("tells its limit"))
                assert (await pieces(serving, "tells its limit", max_tokens=3))[0].text == "3"
                assert (await pieces(serving, (5, 6)))[0].text == "one "
                with pytest.raises(
                    Refused, match="^this model's context holds 64 tokens; asked are 64 of the prompt and 1"
                ):
                    await pieces(serving, "x" * 64)
                with pytest.raises(Refused, match="exceeds the context"):
                    await pieces(serving, "refuses")
                with pytest.raises(Failed, match="^odd sent what is no count of tokens: '{\"tokens\": 3}'$"):
                    await pieces(serving, "malformed")
                with pytest.raises(Unavailable, match="^odd ended while it counted: "):
                    await pieces(serving, "dies")
            async with started(tmp_path) as serving:
                assert (await pieces(serving, "tells its limit"))[0].text == "None"

        asyncio.run(scenario())

    def test_a_chat_with_a_model_that_has_no_template(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, takes_chats=False) as serving:
                with pytest.raises(Refused, match="^this model has no chat template; ask /v1/completions") as raised:
                    async with aclosing(serving.answer(Ask(messages=({"role": "user", "content": "hi"},)))) as answer:
                        await anext(answer)
                assert (raised.value.status, raised.value.parameter) == (400, "messages")

        asyncio.run(scenario())

    def test_closing_the_answer_closes_the_connection(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                async with aclosing(serving.answer(Ask(prompt="lasts"))) as answer:
                    assert (await anext(answer)).text == "0 "
                left = await asyncio.to_thread(
                    until, lambda: "the client left" in (tmp_path / "server.log").read_text()
                )
                assert left and serving.ready

        asyncio.run(scenario())

    def test_a_cancelled_task_closes_the_connection(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                task = asyncio.create_task(pieces(serving, "lasts"))
                await asyncio.sleep(0.3)
                task.cancel()
                await asyncio.wait({task})
                assert task.cancelled()
                assert await asyncio.to_thread(
                    until, lambda: "the client left" in (tmp_path / "server.log").read_text()
                )

        asyncio.run(scenario())

    def test_many_at_once(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                answers = await asyncio.gather(*[pieces(serving, "lasts", max_tokens=10) for _ in range(40)])
                texts = {"".join(piece.text for piece in answer) for answer in answers}
                assert texts == {"".join(f"{number} " for number in range(10))}

        asyncio.run(scenario())


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
            "from tests.selector.serve.own_server.test_upstream import upstream\n"
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
