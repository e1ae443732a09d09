"""Watch: an engine that gives nothing while requests run hangs; one that reads long prompts or is idle does not."""

import asyncio

import pytest

from calibration.engine.streams import Finish
from selector.serve.keep.watch import Silence, Watch
from selector.serve.upstream import Ask, Piece
from tests.selector.serve.clock import Clock
from tests.selector.serve.keep.test_keeper import played

PIECE = Piece(text="a", tokens=(7,))
SILENCE = Silence(least_s=10.0, read_s=0.5, slots=2, context_tokens=100)


def asked(tokens: int) -> Ask:
    return Ask(prompt=(1,) * tokens, max_tokens=5)


def test_nothing_is_expected_while_nothing_runs() -> None:
    clock = Clock()
    watch = Watch(SILENCE, clock=clock)
    clock.now = 1000.0
    assert (watch.silent_s, watch.allowed_s) == (0.0, 10.0)
    with watch.following(asked(4)):
        assert watch.silent_s == 0.0
        clock.now += 3
        assert watch.silent_s == 3.0
    assert watch.silent_s == 0.0


def test_whatever_comes_for_any_request_counts() -> None:
    clock = Clock()
    watch = Watch(SILENCE, clock=clock)
    with watch.following(asked(4)) as came, watch.following(asked(4)):
        clock.now = 9.0
        came(PIECE)
        clock.now = 18.0
        assert watch.silent_s == 9.0
        with watch.following(asked(4)):  # a new request is no sign of life
            assert watch.silent_s == 9.0
        came(Piece(finish=Finish.LENGTH))
        assert watch.silent_s == 0.0


def test_long_prompts_may_take_longer_and_no_more_of_them_than_are_read_at_once() -> None:
    watch = Watch(SILENCE, clock=Clock())
    with watch.following(asked(20)) as first:
        assert watch.allowed_s == 10.0
        with watch.following(asked(40)) as second, watch.following(asked(60)) as third:
            assert watch.allowed_s == 50.0  # 20 s and 30 s
            third(PIECE)
            assert watch.allowed_s == 30.0
            second(PIECE)
            first(PIECE)
            assert watch.allowed_s == 10.0
        with watch.following(asked(1000)):  # longer than the context: it is refused, or cut
            assert watch.allowed_s == 50.0


@pytest.mark.parametrize(
    ("ask", "seconds"),
    [
        (Ask(prompt=(1, 2, 3, 4), max_tokens=9), 2.0),
        (Ask(prompt="four", max_tokens=9), 2.0),
        (Ask(messages=({"role": "user", "content": "four"}, {"role": "user", "content": "six in"})), 5.0),
    ],
)
def test_what_a_prompt_may_take(ask: Ask, seconds: float) -> None:
    assert SILENCE.first_s(ask) == seconds


def test_an_answer_that_comes_whole_may_take_as_long_as_all_of_it() -> None:
    silence = Silence(read_s=0.5, write_s=0.25, context_tokens=100)
    assert silence.first_s(Ask(prompt=(1,) * 4, max_tokens=8)) == 2.0 + 2.0
    assert silence.first_s(Ask(prompt=(1,) * 4)) == 2.0 + 24.0


def test_it_says_how_a_hang_shows() -> None:
    async def story() -> None:
        watch = Watch(Silence(least_s=0.05))
        hung = asyncio.create_task(watch.hung())
        await asyncio.sleep(0.1)
        assert not hung.done()
        with watch.following(asked(4)) as came:
            for _ in range(5):
                await asyncio.sleep(0.02)
                came(PIECE)
            assert not hung.done()
            with watch.following(asked(4)):
                assert await hung == "it hung, giving nothing for 0 s while 2 requests ran"

    played(story)
