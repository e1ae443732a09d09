"""A loaded engine in this process: it generates as before, and streams."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Backend, Engine, Job
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams
from calibration.errors import BackendError, UsageError
from selector.loading.here import EngineHere
from selector.loading.loaded import Loaded
from tests.calibration.tiny_engines.scripted import VOCAB, CountingEngine, Scripted, next_token

LOADED = Loaded(label="scripted:plain", model="a model", max_context_tokens=16, vocab_size=VOCAB)


def job() -> Job:
    return Job(
        model_dir=Path("/nowhere"), variant=Scripted.variants[0], artifact_dir=None, dtype="float32", vocab_size=VOCAB,
        device="cpu", threads=1, max_context_tokens=16, max_batch=4,
    )  # fmt: skip


class Turns(Streams):
    """Gives every request a token a step."""

    abilities = frozenset({Ability.TEMPERATURE})

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.sequences: dict[str, list[int]] = {}
        self.requests: dict[str, Request] = {}

    @property
    def running(self) -> int:
        return len(self.requests)

    def add(self, request: Request) -> None:
        if 63 in request.prompt:
            raise ValueError("63 is no token of mine")
        self.requests[request.id], self.sequences[request.id] = request, list(request.prompt)

    def step(self) -> Sequence[Delta]:
        return [self._next(request) for request in list(self.requests.values())]

    def _next(self, request: Request) -> Delta:
        sequence = self.sequences[request.id]
        if request.temperature == 2:
            del self.requests[request.id]
            return Delta(id=request.id, finish=Finish.ERROR, message="too hot")
        sequence.append(next_token(sequence))
        made = len(sequence) - len(request.prompt)
        ends = sequence[-1] in request.end_tokens
        finish = Finish.STOP if ends else Finish.LENGTH if made == request.max_tokens else None
        if finish:
            del self.requests[request.id]
        return Delta(id=request.id, tokens=(sequence[-1],), finish=finish)

    def cancel(self, request_id: str) -> None:
        self.requests.pop(request_id, None)

    def close(self) -> None:
        self.engine.close()


class Streaming(Scripted):
    """A backend whose engine streams token by token."""

    def __init__(self) -> None:
        self.made: list[Turns] = []

    def streams(self, job: Job) -> Streams:
        raise AssertionError("this loads the model a second time")

    def streams_of(self, engine: Engine, job: Job) -> Streams:
        self.made.append(Turns(engine))
        return self.made[-1]


class Closing(CountingEngine):
    """Tells how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def loaded(backend: Backend, engine: Engine | None = None) -> EngineHere:
    return EngineHere(engine or Closing({}), backend, job(), LOADED)


def path(prompt: Sequence[int], tokens: int) -> list[int]:
    """What the engines continue a prompt by."""
    sequence = list(prompt)
    for _ in range(tokens):
        sequence.append(next_token(sequence))
    return sequence[len(prompt) :]


def test_it_generates_and_scores_as_its_engine_does() -> None:
    bare, engine = CountingEngine({}), loaded(Scripted())
    prompts = [[1, 2, 3], [4, 5, 6]]
    assert engine.generate(prompts, 4).tokens == bare.generate(prompts, 4).tokens
    assert engine.score([1, 2], [3]) == bare.score([1, 2], [3])
    assert engine.score_greedy([1, 2], 3) == bare.score_greedy([1, 2], 3)
    assert list(engine.score_each(prompts, [[1], [2]])) == list(bare.score_each(prompts, [[1], [2]]))
    assert list(engine.score_greedy_each(prompts, 2)) == list(bare.score_greedy_each(prompts, 2))


def test_an_engine_that_only_generates_streams_its_answer_whole() -> None:
    generating = Closing({})
    with loaded(Scripted(), generating) as engine:
        [delta] = engine.stream([1, 2, 3], 5)
        assert (list(delta.tokens), delta.finish) == (path([1, 2, 3], 5), Finish.LENGTH)
        *_, third = path([1, 2, 3], 3)
        [ended] = engine.stream([1, 2, 3], 5, end_tokens=[third])
        assert (list(ended.tokens), ended.finish) == (path([1, 2, 3], 3), Finish.STOP)
    assert generating.closed == 1


def test_what_generates_streams_as_well() -> None:
    backend, generating = Streaming(), Closing({})
    with loaded(backend, generating) as engine:
        engine.generate([[1, 2]], 2)
        deltas = list(engine.stream([1, 2, 3], 4))
        assert [token for delta in deltas for token in delta.tokens] == path([1, 2, 3], 4)
        assert [delta.finish for delta in deltas] == [None, None, None, Finish.LENGTH]
        assert len(list(engine.stream([4], 2))) == 2
    [streams] = backend.made
    assert (streams.engine, streams.running, generating.closed) == (generating, 0, 1)


def test_while_it_streams_it_does_nothing_else() -> None:
    engine = loaded(Streaming())
    stream = engine.stream([1, 2, 3], 8)
    next(stream)
    for other in (
        lambda: engine.generate([[1, 2]], 2),
        lambda: engine.score([1, 2], [3]),
        lambda: engine.score_greedy([1, 2], 3),
        lambda: engine.score_each([[1, 2]], [[3]]),
        lambda: engine.score_greedy_each([[1, 2]], 3),
    ):
        with pytest.raises(UsageError) as error:
            other()
        assert str(error.value) == (
            "scripted:plain is still streaming an answer\nread its iterator to the end, or close it"
        )
    stream.close()
    assert list(engine.generate([[1, 2, 3]], 2).tokens[0]) == path([1, 2, 3], 2)


def test_streams_take_turns() -> None:
    engine = loaded(Streaming())
    one, other = engine.stream([1, 2, 3], 3), engine.stream([7, 8], 3)
    told: dict[str, list[int]] = {"one": [], "other": []}
    for first, second in zip(one, other, strict=True):
        told["one"] += first.tokens
        told["other"] += second.tokens
    assert told == {"one": path([1, 2, 3], 3), "other": path([7, 8], 3)}


def test_closing_an_iterator_ends_its_request() -> None:
    backend = Streaming()
    engine = loaded(backend)
    stream = engine.stream([1, 2, 3], 8)
    next(stream)
    assert backend.made[0].running == 1
    stream.close()
    assert backend.made[0].running == 0
    assert [token for delta in engine.stream([1], 2) for token in delta.tokens] == path([1], 2)


def test_what_the_engine_cannot_do_is_refused_at_once() -> None:
    engine = loaded(Streaming())
    with pytest.raises(UsageError) as error:
        engine.stream([1, 2], 3, temperature=1.0, top_p=0.5, logprobs=2)
    assert error.value.message == "scripted:plain has no logprobs and no top_p when it streams"
    with pytest.raises(UsageError, match="needs a prompt of at least one token; found none"):
        engine.stream([], 3)
    with pytest.raises(UsageError, match="a model has token ids from 0 to 63; found 64"):
        engine.stream([1, 64], 3)
    with pytest.raises(UsageError) as long:
        engine.stream([1] * 10, 7)
    assert str(long.value) == (
        "scripted:plain was loaded for 16 tokens; found a prompt of 10 and 7 new ones\n"
        "load it for more: load(max_context_tokens=17)"
    )


@pytest.mark.parametrize(
    ("prompt", "more", "message"),
    [
        ([63], {}, "scripted:plain failed for a request to a model: 63 is no token of mine"),
        ([1], {"temperature": 2.0}, "scripted:plain failed for a request to a model: too hot"),
    ],
)
def test_a_request_that_fails_is_an_error_and_the_others_go_on(
    prompt: list[int], more: dict[str, Any], message: str
) -> None:
    engine = loaded(Streaming())
    others = engine.stream([1, 2, 3], 3)
    first = next(others)
    with pytest.raises(BackendError) as error:
        list(engine.stream(prompt, 3, **more))
    assert error.value.message == message
    rest = [token for delta in others for token in delta.tokens]
    assert [*first.tokens, *rest] == path([1, 2, 3], 3)
