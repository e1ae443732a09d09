"""Keeper: it loads, notices an end, pauses longer each time, and gives up what dies at every load."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from calibration.errors import NotServed
from selector.serve.keep.keeper import Keeper, Patience, Refusing, Serving
from selector.serve.keep.watch import Silence, Watch
from selector.serve.upstream import Ask, Unavailable

QUICK = Patience(first_s=0.01, most_s=0.04, steady_s=5.0)


@dataclass
class Scripted:
    """A serving that does what its script says: an exception is raised by a start, a text is how a run ends by itself;
    None: it runs until it is stopped."""

    script: Sequence[Exception | str | None]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ending: str = ""
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ended.set()
        self._left = list(self.script)

    @property
    def ready(self) -> bool:
        return not self.ended.is_set()

    async def start(self) -> None:
        assert self.ended.is_set()
        self.done.append("start")
        now = self._left.pop(0)
        if isinstance(now, Exception):
            raise now
        self.ended = asyncio.Event()
        if now is not None:
            asyncio.get_running_loop().call_soon(self._end, now)

    async def stop(self, grace_s: float) -> None:
        self.done.append("stop")
        self._end("it was stopped")

    def _end(self, how: str) -> None:
        if not self.ended.is_set():
            self.ending = how
            self.ended.set()


def kept(serving: Serving, told: list[str], **more: Any) -> Keeper:
    return Keeper(serving, label="toy:fast", say=told.append, **{"patience": QUICK, **more})


def played(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within_a_while() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(within_a_while())


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.001)


def test_an_engine_that_ends_is_started_again_and_each_pause_is_longer() -> None:
    async def story() -> None:
        told: list[str] = []
        serving = Scripted(["killed by SIGKILL\nits log", "a", "b", "c", None])
        keeper = kept(serving, told)
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: serving.done.count("start") == 5)
        assert (keeper.ready, keeper.restarts) == (True, 4)
        assert told == [
            "toy:fast ended: killed by SIGKILL; it is started again in 0.01 s\n  its log",
            "toy:fast ended: a; it is started again in 0.02 s",
            "toy:fast ended: b; it is started again in 0.04 s",
            "toy:fast ended: c; it is started again in 0.04 s",
        ]
        keeping.cancel()
        await asyncio.wait({keeping})
        await keeper.stop()
        # What is left of each engine is taken away before the next one starts.
        assert serving.done == ["start", "stop"] * 5
        assert not keeper.ready

    played(story)


def test_a_steady_engine_begins_with_the_first_pause_again() -> None:
    async def story() -> None:
        told: list[str] = []
        keeper = kept(Scripted(["a", "b", None]), told, patience=Patience(first_s=0.01, steady_s=0.0))
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: keeper.restarts == 2)
        assert [sentence.rpartition(" in ")[2] for sentence in told] == ["0.01 s", "0.01 s"]
        keeping.cancel()

    played(story)


def test_an_engine_that_dies_at_every_load_is_given_up() -> None:
    async def story() -> None:
        told: list[str] = []
        deaths = [Unavailable(f"killed by SIGSEGV\nline {number}") for number in range(4)]
        with pytest.raises(NotServed) as caught:
            await kept(Scripted(deaths), told).keep()
        assert caught.value.message == "toy:fast cannot be loaded (3 times in a row): killed by SIGSEGV\n  line 2"
        assert caught.value.mend == "name another with --backend, or measure which ones run: --calibrate SECONDS"
        assert len(told) == 2

    played(story)


def test_a_load_that_succeeds_forgives_those_that_failed() -> None:
    async def story() -> None:
        serving = Scripted([Unavailable("x"), Unavailable("x"), "y", Unavailable("x"), Unavailable("x"), None])
        keeper = kept(serving, [])
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: keeper.ready and keeper.restarts == 5)
        keeping.cancel()

    played(story)


def test_an_engine_that_refuses_the_model_is_not_tried_again() -> None:
    async def story() -> None:
        serving = Scripted([Refusing("ValueError: no such layer\nits log"), None])
        with pytest.raises(NotServed, match=r"^toy:fast cannot be loaded: ValueError: no such layer\n  its log\nname"):
            await kept(serving, []).keep()
        assert serving.done == ["start"]

    played(story)


def test_requests_are_told_why_there_is_no_engine_and_when_to_come_again() -> None:
    async def story() -> None:
        now = 100.0
        keeper = kept(Scripted(["out of memory", None]), [], patience=Patience(first_s=8.0), clock=lambda: now)
        assert keeper.unavailable().message == "toy:fast is being loaded"
        assert keeper.unavailable().retry_after_s is None
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: "ended" in keeper.unavailable().message)
        assert keeper.unavailable().message == "toy:fast ended (out of memory) and is being started again"
        assert keeper.unavailable().retry_after_s == 8.0
        now = 103.0
        assert keeper.unavailable().retry_after_s == 5.0
        keeping.cancel()
        await asyncio.wait({keeping})
        await keeper.stop()
        assert keeper.unavailable().message == "toy:fast is being stopped"

    played(story)


def test_each_load_is_told_with_its_seconds() -> None:
    async def story() -> None:
        loads: list[float] = []
        keeper = kept(Scripted(["a", None]), [], on_ready=loads.append)
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: len(loads) == 2)
        assert all(0 <= load_s < 1 for load_s in loads)
        keeping.cancel()

    played(story)


def test_an_engine_that_hangs_is_ended_and_started_again() -> None:
    async def story() -> None:
        told: list[str] = []
        serving = Scripted([None, None])
        watch = Watch(Silence(least_s=0.05))
        keeper = kept(serving, told, watch=watch, patience=Patience(first_s=0.2))
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: keeper.ready)
        with watch.following(Ask(prompt=(1, 2, 3), max_tokens=2)):
            await until(lambda: keeper.hung is not None)
        hung, reason = keeper.hung, "it hung, giving nothing for 0 s while 1 request ran"
        assert hung is not None and (hung.message, hung.code) == (f"toy:fast was ended: {reason}", "engine_hung")
        await until(lambda: "started again" in keeper.unavailable().message)
        away = keeper.unavailable()
        assert (away.message, away.code) == (f"toy:fast ended ({reason}) and is being started again", "engine_hung")
        assert not keeper.ready
        await until(lambda: keeper.ready)
        assert (keeper.restarts, keeper.hung, keeper.unavailable().code) == (1, None, None)
        assert told == [f"toy:fast ended: {reason}; it is started again in 0.2 s"]
        assert serving.done == ["start", "stop", "start"]
        keeping.cancel()

    played(story)


def test_an_engine_that_was_loaded_already_is_kept_from_there_on() -> None:
    async def story() -> None:
        told: list[str] = []
        serving = Scripted([None, None])
        keeper = kept(serving, told)
        await keeper.load()
        assert (keeper.ready, keeper.load_s < 1, serving.done) == (True, True, ["start"])
        keeping = asyncio.create_task(keeper.keep())
        await asyncio.sleep(0.01)
        assert serving.done == ["start"]
        serving._end("killed by SIGKILL")
        await until(lambda: keeper.ready and keeper.restarts == 1)
        assert told == ["toy:fast ended: killed by SIGKILL; it is started again in 0.01 s"]
        keeping.cancel()

    played(story)
