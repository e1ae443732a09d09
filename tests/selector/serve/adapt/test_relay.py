"""Relay: another engine takes the place of the one that answers, and no request is lost, whatever goes wrong."""

import asyncio
from dataclasses import dataclass, field

import pytest

from calibration.errors import NotServed
from selector.serve.adapt.relay import Kept, NotDrained, Relay
from selector.serve.keep.keeper import Refusing
from selector.serve.upstream import Unavailable
from tests.selector.serve.keep.test_gate import Slow, texts
from tests.selector.serve.keep.test_keeper import Scripted, kept, played, until

DIED = "killed by SIGKILL"


@dataclass
class Parts:
    """An engine whose parts a test can get hold of."""

    serving: Scripted
    upstream: Slow = field(default_factory=Slow)

    def __post_init__(self) -> None:
        self.told: list[str] = []
        self.keeper = kept(self.serving, self.told)
        self.kept = Kept(upstream=self.upstream, keeper=self.keeper)


class Hanging(Scripted):
    """It loads for ever, and leaves nothing where that is cancelled."""

    cancelled = False

    async def start(self) -> None:
        self.done.append("start")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def answering(parts: Parts, *, drain_s: float = 5.0) -> Relay:
    relay = Relay(parts.kept, drain_s=drain_s)
    relay.begin()
    await until(lambda: parts.keeper.ready)
    return relay


def fit() -> str:
    return ""


def test_beside_the_old_one_requests_in_flight_end_there_and_new_ones_go_to_the_new_one() -> None:
    async def story() -> None:
        old, new, switched = Parts(Scripted([None])), Parts(Scripted([None])), list[int]()
        relay = await answering(old)
        first = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 1)
        change = asyncio.create_task(relay.switch_beside(new.kept, lambda: switched.append(1), unfit=fit))
        await until(lambda: bool(switched))
        assert (relay.current, relay.gate.ready) == (new.kept, True)
        second = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 2)
        new.upstream.goes_on.set()
        assert await second == ["a", ""]
        assert (old.serving.done, change.done()) == (["start"], False), "it has a request yet"
        old.upstream.goes_on.set()
        assert await first == ["a", ""]
        await change
        assert old.serving.done == ["start", "stop"]
        assert new.serving.done == ["start"], "it was loaded once"
        await relay.stop(at_once=False)
        assert new.serving.done == ["start", "stop"]

    played(story)


@pytest.mark.parametrize("failure", [Unavailable(DIED), Refusing("no such layer")])
def test_an_engine_that_does_not_come_up_changes_nothing(failure: Exception) -> None:
    async def story() -> None:
        old, new, switched = Parts(Scripted([None])), Parts(Scripted([failure])), list[int]()
        relay = await answering(old)
        first = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 1)
        with pytest.raises(Unavailable, match=str(failure)):
            await relay.switch_beside(new.kept, lambda: switched.append(1), unfit=fit)
        assert (relay.current, switched, old.serving.done) == (old.kept, [], ["start"])
        old.upstream.goes_on.set()
        assert await first == ["a", ""]
        assert await texts(relay.gate) == ["a", ""]
        await relay.stop(at_once=False)

    played(story)


def test_an_engine_that_cannot_answer_what_is_asked_is_ended_again() -> None:
    async def story() -> None:
        old, new = Parts(Scripted([None])), Parts(Scripted([None]))
        relay = await answering(old)
        with pytest.raises(Unavailable, match=r"^it takes no `seed`$"):
            await relay.switch_beside(new.kept, lambda: None, unfit=lambda: "it takes no `seed`")
        assert (relay.current, new.serving.done) == (old.kept, ["start", "stop"])
        await relay.stop(at_once=False)

    played(story)


def test_after_the_old_one_new_requests_wait_and_are_answered_by_the_new_one() -> None:
    async def story() -> None:
        old, new, switched = Parts(Scripted([None])), Parts(Scripted([None])), list[int]()
        relay = await answering(old)
        first = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 1)
        change = asyncio.create_task(relay.switch_after(new.kept, lambda: switched.append(1), unfit=fit))
        await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(texts(relay.gate)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert (relay.gate.running, relay.gate.ready) == (1, True), "those that wait are not in any engine"
        assert (old.serving.done, new.serving.done) == (["start"], [])
        old.upstream.goes_on.set()
        assert await first == ["a", ""]
        await change
        assert (old.serving.done, new.serving.done) == (["start", "stop"], ["start"])
        new.upstream.goes_on.set()
        assert await asyncio.gather(*waiting) == [["a", ""]] * 3
        assert (old.upstream.closed, new.upstream.closed) == (1, 3)
        await relay.stop(at_once=False)

    played(story)


def test_where_requests_do_not_end_in_time_the_old_one_goes_on() -> None:
    async def story() -> None:
        old, new = Parts(Scripted([None])), Parts(Scripted([None]))
        relay = await answering(old, drain_s=0.05)
        first = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 1)
        change = asyncio.create_task(relay.switch_after(new.kept, lambda: None, unfit=fit))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(texts(relay.gate))
        with pytest.raises(NotDrained):
            await change
        old.upstream.goes_on.set()
        assert list(await asyncio.gather(first, second)) == [["a", ""]] * 2
        assert (old.serving.done, new.serving.done) == (["start"], [])
        await relay.stop(at_once=False)

    played(story)


def test_where_the_new_one_does_not_come_up_afterwards_the_old_one_is_loaded_again() -> None:
    async def story() -> None:
        old, new, switched = Parts(Scripted([None, None])), Parts(Scripted([Unavailable(DIED)])), list[int]()
        old.upstream.goes_on.set()
        relay = await answering(old)
        change = asyncio.create_task(relay.switch_after(new.kept, lambda: switched.append(1), unfit=fit))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(texts(relay.gate))
        with pytest.raises(Unavailable, match=DIED):
            await change
        assert await waiting == ["a", ""]
        assert (relay.current, switched, old.keeper.restarts) == (old.kept, [], 1)
        assert old.serving.done == ["start", "stop", "start"]
        await relay.stop(at_once=False)

    played(story)


def test_where_the_old_one_does_not_come_up_again_either_its_keeper_goes_on_trying() -> None:
    async def story() -> None:
        old = Parts(Scripted([None, Unavailable("busy"), None]))
        relay = await answering(old)
        with pytest.raises(Unavailable, match=DIED):
            await relay.switch_after(Parts(Scripted([Unavailable(DIED)])).kept, lambda: None, unfit=fit)
        await until(lambda: relay.gate.ready)
        assert old.serving.done == ["start", "stop", "start", "start"]
        await relay.stop(at_once=False)

    played(story)


@pytest.mark.parametrize("way", ["beside", "after"])
def test_told_to_stop_in_the_middle_it_leaves_nothing_running(way: str) -> None:
    async def story() -> None:
        old, new = Parts(Scripted([None])), Parts(Hanging([None]))
        relay = await answering(old)
        change = relay.switch_beside if way == "beside" else relay.switch_after
        changing = asyncio.create_task(change(new.kept, lambda: None, unfit=fit))
        await until(lambda: new.serving.done == ["start"])
        waiting = asyncio.create_task(texts(relay.gate)) if way == "after" else None
        await asyncio.sleep(0)
        relay.gate.close()
        changing.cancel()
        await asyncio.wait({changing})
        await relay.stop(at_once=False)
        assert isinstance(new.serving, Hanging) and new.serving.cancelled
        assert not old.serving.ready
        if waiting:
            with pytest.raises(Unavailable, match=r"^the server is being stopped$"):
                await waiting

    played(story)


def test_told_to_stop_while_the_old_one_drains_its_request_ends_first() -> None:
    async def story() -> None:
        old, new, switched = Parts(Scripted([None])), Parts(Scripted([None])), list[int]()
        relay = await answering(old)
        first = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 1)
        changing = asyncio.create_task(relay.switch_beside(new.kept, lambda: switched.append(1), unfit=fit))
        await until(lambda: bool(switched))
        relay.gate.close()
        changing.cancel()
        await asyncio.wait({changing})
        assert (relay.gate.running, old.serving.ready) == (1, True)
        old.upstream.goes_on.set()
        await relay.gate.wait_until_idle()
        assert await first == ["a", ""]
        await relay.stop(at_once=False)
        assert (old.serving.ready, new.serving.ready) == (False, False)

    played(story)


def test_an_engine_that_cannot_be_kept_is_lost_and_one_that_is_leaving_is_not() -> None:
    async def story() -> None:
        dies = [Unavailable("x")] * 3
        old, new, switched = Parts(Scripted([None, *dies])), Parts(Scripted([None, *dies])), list[int]()
        relay = await answering(old)
        asked = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 1)
        changing = asyncio.create_task(relay.switch_beside(new.kept, lambda: switched.append(1), unfit=fit))
        await until(lambda: bool(switched))
        old.serving._end("crashed")
        await until(lambda: old.serving.done.count("start") == 4)
        await asyncio.sleep(0.01)
        assert not relay.lost.done()
        old.upstream.goes_on.set()
        await asked
        await changing
        new.serving._end("crashed")
        with pytest.raises(NotServed, match="3 times in a row"):
            await relay.lost
        await relay.stop(at_once=True)

    played(story)


def test_an_engine_that_was_up_when_it_was_told_to_stop_is_ended_too() -> None:
    """A cancellation may come in the moment between the load and what follows it."""

    class UpAtOnce(Scripted):
        async def start(self) -> None:
            await super().start()
            await asyncio.Event().wait()

    async def story() -> None:
        old, new = Parts(Scripted([None])), Parts(UpAtOnce([None]))
        relay = await answering(old)
        changing = asyncio.create_task(relay.switch_beside(new.kept, lambda: None, unfit=fit))
        await until(lambda: new.serving.ready)
        relay.gate.close()
        changing.cancel()
        await asyncio.wait({changing})
        await relay.stop(at_once=False)
        assert (old.serving.ready, new.serving.ready) == (False, False)

    played(story)
