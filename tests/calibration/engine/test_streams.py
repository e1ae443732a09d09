"""What a request may ask, and the two ways in which an engine serves that cannot take a request beside others."""

from collections.abc import Generator
from typing import Any

import pytest

from calibration.engine.streams import (
    Ability,
    Delta,
    Finish,
    OneAfterAnother,
    Request,
    Streams,
    TokenByToken,
    TokenScores,
)
from tests.calibration.tiny_engines.counting_streams import CountingEngine


def request(name: str = "a", **fields: Any) -> Request:
    return Request(**{"id": name, "prompt": (5,), "max_tokens": 3, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ()}, "needs a prompt of at least one token; found none"),
        ({"max_tokens": 0}, "needs at least one new token; found max_tokens 0"),
        ({"temperature": -0.5}, "needs a temperature of 0 or more; found -0.5"),
        ({"temperature": float("nan")}, "needs a temperature of 0 or more; found nan"),
        ({"top_p": 0.0}, "needs a top_p above 0 and up to 1; found 0"),
        ({"top_p": 1.5}, "needs a top_p above 0 and up to 1; found 1.5"),
        ({"logprobs": -1}, "needs logprobs of 0 or more; found -1"),
    ],
)
def test_a_request_that_no_engine_could_heed_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        request(**fields)


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"seed": 3, "top_p": 0.5}, set()),  # greedy: they change nothing
        ({"temperature": 0.5}, {Ability.TEMPERATURE}),
        ({"temperature": 0.5, "seed": 0, "top_p": 0.5}, {Ability.TEMPERATURE, Ability.SEED, Ability.TOP_P}),
        ({"logprobs": 1}, {Ability.LOGPROBS}),
    ],
)
def test_what_a_request_needs(fields: dict[str, Any], needs: set[Ability]) -> None:
    assert request(**fields).needs() == needs


def all_deltas(streams: Streams) -> list[Delta]:
    deltas: list[Delta] = []
    while streams.running:
        deltas += streams.step()
    return deltas


def test_an_engine_that_can_only_generate_answers_whole_and_in_turn() -> None:
    streams = OneAfterAnother(CountingEngine(64))
    for each in (request(), request("b", end_tokens=frozenset({7, 60})), request("c"), request("d", prompt=(62,))):
        streams.add(each)
    assert (streams.running, streams.batching, streams.abilities) == (4, "none", frozenset())
    streams.cancel("c")
    streams.cancel("nobody")
    assert all_deltas(streams) == [
        Delta(id="a", tokens=(6, 7, 8), finish=Finish.LENGTH),
        Delta(id="b", tokens=(6, 7), finish=Finish.STOP),
        Delta(id="d", tokens=(63, 0, 1), finish=Finish.LENGTH),
    ]


class Counter(TokenByToken):
    """Notes what begins and what is closed."""

    def __init__(self, tokens: int = 1000) -> None:
        super().__init__()
        self.tokens = tokens
        self.course: list[str] = []

    def answer(self, request: Request) -> Generator[tuple[int, TokenScores | None]]:
        self.course.append(f"begin {request.id}")
        try:
            for step in range(1, 1 + self.tokens):
                yield request.prompt[-1] + step, TokenScores(chosen=-step) if request.logprobs else None
        finally:
            self.course.append(f"close {request.id}")


def test_tokens_are_told_as_they_come_and_the_engine_is_closed_before_the_next() -> None:
    streams = Counter()
    for each in (request(logprobs=1), request("b", end_tokens=frozenset({7}))):
        streams.add(each)
    assert all_deltas(streams) == [
        Delta(id="a", tokens=(6,), scores=(TokenScores(chosen=-1),)),
        Delta(id="a", tokens=(7,), scores=(TokenScores(chosen=-2),)),
        Delta(id="a", tokens=(8,), scores=(TokenScores(chosen=-3),), finish=Finish.LENGTH),
        Delta(id="b", tokens=(6,)),
        Delta(id="b", tokens=(7,), finish=Finish.STOP),
    ]
    assert streams.course == ["begin a", "close a", "begin b", "close b"]


def test_a_request_is_cancelled_while_it_is_answered_and_while_it_waits() -> None:
    streams = Counter()
    for each in map(request, "abc"):
        streams.add(each)
    streams.step()
    streams.cancel("b")
    streams.cancel("a")
    assert (streams.running, streams.course) == (1, ["begin a", "close a"])
    assert {delta.id for delta in all_deltas(streams)} == {"c"}
    streams.cancel("c")
    assert streams.running == 0


def test_an_engine_that_stops_early_fails_for_that_request_alone() -> None:
    streams = Counter(tokens=2)
    streams.add(request())
    streams.add(request("b", max_tokens=2))
    told = all_deltas(streams)
    assert told[2] == Delta(id="a", finish=Finish.ERROR, message="the engine stopped after 2 of 3 tokens")
    assert told[-1] == Delta(id="b", tokens=(7,), finish=Finish.LENGTH)
