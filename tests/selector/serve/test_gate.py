"""Gate: it lets requests through while there is an engine and nobody has told it to stop, and knows how many run."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from calibration.streams import Ability, Finish
from selector.serve.gate import Gate
from selector.serve.keeper import Keeper
from selector.serve.upstream import Ask, Piece, Unavailable
from tests.selector.serve.test_keeper import Scripted, kept, played, until

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
