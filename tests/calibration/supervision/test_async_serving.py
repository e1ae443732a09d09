"""A real worker process that serves a tiny engine to an event loop: its good days, its bad ones, and its end."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Job, Variant
from calibration.engine.streams import Delta, Finish, Request
from calibration.measurement import FailureKind
from calibration.supervision.async_serving import AsyncServingWorker
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.supervisor import Worker
from calibration.worker.opening import Opening

ENGINE = str(Path(__file__).parents[1] / "tiny_engines" / "counting_streams.py")
VOCAB = 1 << 20


class Heard:
    """What comes from a worker, on the loop of the test."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.thread = threading.get_ident()
        self.deltas: asyncio.Queue[Delta] = asyncio.Queue()
        self.ends: list[Trouble] = []
        self.ended = asyncio.Event()
        self.serving = AsyncServingWorker(worker, on_deltas=self._take, on_end=self._end)

    def _take(self, deltas: Sequence[Delta]) -> None:
        assert threading.get_ident() == self.thread
        for delta in deltas:
            self.deltas.put_nowait(delta)

    def _end(self, trouble: Trouble) -> None:
        assert threading.get_ident() == self.thread
        self.ends.append(trouble)
        self.ended.set()

    async def until(self, name: str) -> list[Delta]:
        """All deltas up to the end of a request."""
        come = [await self.deltas.get()]
        while not (come[-1].id == name and come[-1].finish):
            come.append(await self.deltas.get())
        return come


@asynccontextmanager
async def a_server(tmp_path: Path, *, limit: int = 8 << 30, **options: Any) -> AsyncIterator[Heard]:
    job = Job(
        model_dir=tmp_path, artifact_dir=None, dtype="float32", vocab_size=VOCAB, device="cpu", threads=1,
        max_context_tokens=1 << 20, max_batch=4, variant=Variant(name="plain", options=options),
    )  # fmt: skip
    with Worker(Path(sys.executable), log=tmp_path / "log", memory_limit_bytes=limit) as worker:
        opening = Opening(backend="counting", job=job, source=ENGINE).request()
        assert isinstance(worker.ask("open", timeout_s=30, **opening), Reply)
        assert isinstance(worker.ask("load_streams", timeout_s=30), Reply)
        heard = Heard(worker)
        assert await heard.serving.start() is None
        try:
            yield heard
        finally:
            heard.serving.leave()
            await asyncio.to_thread(heard.serving.kill)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """A scene of 20 s at most."""

    async def within() -> None:
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(within())


def request(name: str, *, first: int = 5, max_tokens: int = 3) -> Request:
    return Request(id=name, prompt=(first,), max_tokens=max_tokens)


def test_requests_come_while_others_run_and_one_is_cancelled(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_server(tmp_path) as heard:
            heard.serving.add(request("long", max_tokens=100_000))
            assert await heard.deltas.get() == Delta(id="long", tokens=(6,))
            heard.serving.add(request("short", first=50))
            come = await heard.until("short")
            assert [delta for delta in come if delta.id == "short"] == [
                Delta(id="short", tokens=(51,)),
                Delta(id="short", tokens=(52,)),
                Delta(id="short", tokens=(53,), finish=Finish.LENGTH),
            ]
            heard.serving.cancel("long")
            heard.serving.add(request("last", first=90))
            last = await heard.until("last")
            assert [delta.tokens for delta in last if delta.id == "last"] == [(91,), (92,), (93,)]
            await asyncio.sleep(0.05)
            assert heard.deltas.empty()
            assert heard.ends == []

    play(scene)


def test_a_step_of_several_requests_is_one_call(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_server(tmp_path, step_s=0.02) as heard:
            steps: list[int] = []
            heard.serving._on_deltas = lambda deltas: steps.append(len(deltas))
            for name in "abc":
                heard.serving.add(request(name, max_tokens=5))
            while sum(steps) < 15:
                await asyncio.sleep(0.01)
            assert max(steps) == 3

    play(scene)


def test_lines_that_the_pipe_cannot_take_wait_on_a_thread_and_keep_their_order(tmp_path: Path) -> None:
    """A stopped worker reads nothing: the loop goes on, and what was sent to it is answered when it does."""
    prompt = tuple(range(500_000, 650_000))

    async def scene() -> None:
        async with a_server(tmp_path) as heard:
            os.kill(heard.worker.pid, signal.SIGSTOP)
            began = time.monotonic()
            for name in "ab":
                heard.serving.add(Request(id=name, prompt=prompt, max_tokens=2))
            heard.serving.add(request("c", max_tokens=100_000))
            heard.serving.cancel("c")
            heard.serving.add(request("d"))
            assert time.monotonic() - began < 1
            await asyncio.sleep(0.1)
            assert heard.deltas.empty()
            os.kill(heard.worker.pid, signal.SIGCONT)
            come = await heard.until("d")
            assert {delta.id: delta.tokens for delta in come if delta.finish} == {
                "a": (650_001,),
                "b": (650_001,),
                "d": (8,),
            }

    play(scene)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raise", FailureKind.CRASHED, "RuntimeError: kernel exploded"),
        ("exit", FailureKind.CRASHED, "the worker ended with exit code 3"),
        ("noise", FailureKind.CRASHED, "the worker sent what is no answer: '\ufffd not json'"),
    ],
)
def test_an_engine_that_fails_is_told_once(tmp_path: Path, how: str, kind: FailureKind, message: str) -> None:
    async def scene() -> None:
        async with a_server(tmp_path, at_token={"20": how}) as heard:
            heard.serving.add(request("a", max_tokens=100))
            await heard.ended.wait()
            heard.serving.add(request("late"))
            await asyncio.sleep(0.05)
            assert heard.ends == [Trouble(kind=kind, message=message)]

    play(scene)


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_killed_worker_is_told_within_a_second(tmp_path: Path, is_busy: bool) -> None:
    async def scene() -> None:
        async with a_server(tmp_path) as heard:
            if is_busy:
                heard.serving.add(request("a", max_tokens=1_000_000))
                await heard.deltas.get()
            os.kill(heard.worker.pid, signal.SIGKILL)
            async with asyncio.timeout(1):
                await heard.ended.wait()
            assert heard.ends[0].message.startswith("killed by SIGKILL")
            heard.serving.add(request("late"))
        assert len(heard.ends) == 1

    play(scene)


def test_one_that_takes_too_much_memory_is_told_while_lines_come(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_server(tmp_path, limit=256 << 20, step_s=0.0, at_token={"1000": "grow"}) as heard:
            heard.serving.add(request("a", max_tokens=1_000_000))
            await heard.ended.wait()
            [trouble] = heard.ends
            assert trouble.kind is FailureKind.OUT_OF_MEMORY

    play(scene)


def test_who_leaves_hears_nothing_more(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_server(tmp_path) as heard:
            heard.serving.add(request("a", max_tokens=1_000_000))
            await heard.deltas.get()
            heard.serving.leave()
            while not heard.deltas.empty():
                heard.deltas.get_nowait()
            os.kill(heard.worker.pid, signal.SIGKILL)
            await asyncio.sleep(0.1)
            assert heard.deltas.empty()
        assert heard.ends == []

    play(scene)


def test_it_closes_when_it_is_told_to(tmp_path: Path) -> None:
    async def scene() -> None:
        async with a_server(tmp_path) as heard:
            heard.serving.add(request("runs", max_tokens=1_000_000))
            await heard.deltas.get()
            heard.serving.close()
            await heard.ended.wait()
            assert heard.ends == [Trouble(kind=FailureKind.CRASHED, message="the worker ended with exit code 0")]
        assert (tmp_path / "log").read_text().strip() == "closed"

    play(scene)
