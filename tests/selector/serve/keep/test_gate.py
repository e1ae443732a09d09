"""Gate: it lets requests through while there is an engine and nobody has told it to stop, and knows how many run."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from calibration.engine.streams import Ability, Finish
from selector.serve.keep.gate import Gate
from selector.serve.keep.keeper import Keeper, Patience
from selector.serve.keep.watch import Silence, Watch
from selector.serve.upstream import Ask, Piece, Unavailable
from tests.selector.serve.keep.test_keeper import Scripted, kept, played, until

ASK = Ask(prompt=(1, 2, 3), max_tokens=2)


class Slow:
    """An upstream whose answers end when they are told to."""

    abilities = frozenset({Ability.SEED})
    context_tokens = 512
    ready = True

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.closed = 0

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        try:
            yield Piece(text="a", tokens=(7,))
            await self.goes_on.wait()
            yield Piece(finish=Finish.LENGTH, prompt_tokens=3, completion_tokens=1)
        finally:
            self.closed += 1


async def running() -> tuple[Keeper, "asyncio.Task[None]"]:
    keeper = kept(Scripted([None]), [])
    keeping = asyncio.create_task(keeper.keep())
    await until(lambda: keeper.ready)
    return keeper, keeping


async def texts(gate: Gate) -> list[str]:
    return [piece.text async for piece in gate.answer(ASK)]


def test_it_passes_on_what_the_engine_can_do() -> None:
    async def story() -> None:
        keeper, _ = await running()
        gate = Gate(Slow(), keeper)
        assert (gate.abilities, gate.context_tokens, gate.ready) == (frozenset({Ability.SEED}), 512, True)

    played(story)


def test_while_there_is_no_engine_requests_are_refused() -> None:
    async def story() -> None:
        gate = Gate(Slow(), kept(Scripted([None]), []))
        assert not gate.ready
        with pytest.raises(Unavailable, match=r"^toy:fast is being loaded$"):
            await texts(gate)
        assert gate.running == 0

    played(story)


def test_when_it_is_closed_running_requests_end_and_new_ones_are_refused() -> None:
    async def story() -> None:
        keeper, _ = await running()
        upstream = Slow()
        gate = Gate(upstream, keeper)
        first = asyncio.create_task(texts(gate))
        await until(lambda: gate.running == 1)
        gate.close()
        assert not gate.ready
        with pytest.raises(Unavailable, match=r"^the server is being stopped$") as caught:
            await texts(gate)
        assert caught.value.retry_after_s == 10.0
        idle = asyncio.create_task(gate.wait_until_idle())
        await asyncio.sleep(0.01)
        assert not idle.done()
        upstream.goes_on.set()
        assert await first == ["a", ""]
        await idle
        assert gate.running == 0

    played(story)


def test_a_request_that_is_given_up_is_closed_in_the_engine() -> None:
    async def story() -> None:
        keeper, _ = await running()
        upstream = Slow()
        gate = Gate(upstream, keeper)
        async with aclosing(gate.answer(ASK)) as pieces:
            assert (await anext(pieces)).text == "a"
            assert (gate.running, upstream.closed) == (1, 0)
        assert (gate.running, upstream.closed) == (0, 1)
        await gate.wait_until_idle()

    played(story)


class Gone(Slow):
    """An upstream that gives a piece and then nothing, until its engine is ended."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self.keeper = keeper

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Piece(text="a", tokens=(7,))
        await until(lambda: not self.keeper.ready)
        raise Unavailable("toy:fast ended while it answered: it was stopped")


@pytest.mark.parametrize("hangs", [True, False])
def test_the_requests_of_an_engine_that_hung_are_told_so(hangs: bool) -> None:
    async def story() -> None:
        serving = Scripted([None, None])
        watch = Watch(Silence(least_s=0.05 if hangs else 60.0))
        keeper = kept(serving, [], watch=watch, patience=Patience(first_s=5.0))
        keeping = asyncio.create_task(keeper.keep())
        await until(lambda: keeper.ready)
        gate = Gate(Gone(keeper), keeper)
        if not hangs:
            asyncio.get_running_loop().call_later(0.05, serving._end, "killed by SIGKILL")
        with pytest.raises(Unavailable) as caught:
            await texts(gate)
        away = gate.unavailable()
        if hangs:
            assert caught.value.message == "toy:fast was ended: it hung, giving nothing for 0 s while 1 request ran"
            assert caught.value.code == away.code == "engine_hung"
        else:
            assert caught.value.message == "toy:fast ended while it answered: it was stopped"
            assert caught.value.code is away.code is None
        assert (gate.running, gate.ready) == (0, False)
        keeping.cancel()

    played(story)


def test_another_engine_gets_the_new_requests() -> None:
    async def story() -> None:
        keeper, _ = await running()
        old, new = Slow(), Slow()
        new.context_tokens = 1024
        gate = Gate(old, keeper)
        first = asyncio.create_task(texts(gate))
        await until(lambda: gate.running == 1)
        lane = gate.turn_to(new, keeper)
        assert (lane.upstream, lane.running, gate.context_tokens) == (old, 1, 1024)
        second = asyncio.create_task(texts(gate))
        await until(lambda: gate.running == 2)
        new.goes_on.set()
        assert await second == ["a", ""]
        idle = asyncio.create_task(gate.wait_until_idle())
        await asyncio.sleep(0.01)
        assert not idle.done(), "one runs in the engine before"
        old.goes_on.set()
        await lane.wait_until_idle()
        assert await first == ["a", ""]
        await idle
        assert gate.running == 0

    played(story)


def test_held_requests_wait_and_go_on_where_requests_then_go() -> None:
    async def story() -> None:
        keeper, _ = await running()
        old, new = Slow(), Slow()
        new.goes_on.set()
        gate = Gate(old, keeper)
        with gate.holding():
            waiting = asyncio.create_task(texts(gate))
            await asyncio.sleep(0.01)
            assert (gate.running, gate.ready) == (0, True)
            gate.turn_to(new, keeper)
        assert await waiting == ["a", ""]
        assert (old.closed, new.closed) == (0, 1)

    played(story)


def test_a_held_request_does_not_wait_for_ever() -> None:
    async def story() -> None:
        keeper, _ = await running()
        gate = Gate(Slow(), keeper, hold_s=0.02)
        with gate.holding(), pytest.raises(Unavailable, match=r"^another engine is being loaded$"):
            await texts(gate)
        assert gate.running == 0

    played(story)


def test_it_knows_what_was_asked_for() -> None:
    async def story() -> None:
        keeper, _ = await running()
        upstream = Slow()
        upstream.goes_on.set()
        gate = Gate(upstream, keeper)
        assert gate.asked_for == frozenset()
        sampled = Ask(prompt=(1, 2, 3), max_tokens=2, temperature=0.5, seed=7)
        assert [piece.text async for piece in gate.answer(sampled)] == ["a", ""]
        assert await texts(gate) == ["a", ""]
        assert gate.asked_for == {Ability.TEMPERATURE, Ability.SEED}

    played(story)
