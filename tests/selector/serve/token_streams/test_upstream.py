"""An engine's tokens as pieces of an answer."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from calibration.engine.streams import Ability, Delta, Finish, Request
from selector.serve.language.text import Text
from selector.serve.token_streams.upstream import TokenUpstream
from selector.serve.upstream import Ask, Failed, Piece, Refused, Unavailable
from tests.selector.serve.scripted import Scripted, saying

ENGINE = "scripted:one"


def upstream(engine: Scripted, text: Text | None, *, context_tokens: int = 64) -> TokenUpstream:
    return TokenUpstream(engine, text, context_tokens=context_tokens, vocab_size=400, engine_name=ENGINE)


def pieces(engine: Scripted, text: Text | None, ask: Ask) -> list[Piece]:
    async def take() -> list[Piece]:
        return [piece async for piece in upstream(engine, text).answer(ask)]

    return asyncio.run(take())


def refusal(engine: Scripted, text: Text | None, ask: Ask) -> Refused:
    with pytest.raises(Refused) as caught:
        pieces(engine, text, ask)
    assert engine.requests == []
    return caught.value


def told(given: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in given)


def test_what_the_engine_is_asked(text: Text, words: list[int]) -> None:
    engine = Scripted(saying(words))
    ask = Ask(prompt="What?", max_tokens=5, temperature=0.5, top_p=0.9, seed=4, logprobs=2)
    pieces(engine, text, ask)
    prompt = text.encode("What?", most=10).tokens
    assert engine.requests == [
        Request(
            id="1",
            prompt=prompt,
            max_tokens=5,
            end_tokens=frozenset({0, 2}),
            temperature=0.5,
            top_p=0.9,
            seed=4,
            logprobs=2,
        )
    ]
    pieces(engine, text, Ask(prompt=prompt, ignore_end=True))
    assert engine.requests[1] == Request(id="1", prompt=prompt, max_tokens=64 - len(prompt))


def test_each_step_is_a_piece_and_the_last_has_the_counts(text: Text, words: list[int]) -> None:
    given = pieces(Scripted(saying(words, step=3, end=2)), text, Ask(prompt=(5, 6, 7)))
    assert told(given) == " The capital of France is Paris."
    assert [token for piece in given for token in piece.tokens] == [*words, 2]
    assert [piece.finish for piece in given] == [None] * (len(given) - 1) + [Finish.STOP]
    assert {piece.prompt_tokens for piece in given} == {3}
    assert [piece.completion_tokens for piece in given] == [0] * (len(given) - 1) + [len(words) + 1]


def test_the_token_that_ends_an_answer_has_no_text_though_it_is_no_special_one(text: Text, words: list[int]) -> None:
    plain = Text(text._tokenizer, end_tokens=frozenset({words[-1]}))
    given = pieces(Scripted(saying(words[:-1], end=words[-1])), plain, Ask(prompt=(5,)))
    assert told(given) == " The capital of France is Paris"
    assert given[-1].completion_tokens == len(words)


@pytest.mark.parametrize("step", [1, 2, 100])
def test_a_stop_text_ends_the_answer_and_the_engine_s_request(step: int, text: Text, words: list[int]) -> None:
    engine = Scripted(saying(words * 3, step=step))
    given = pieces(engine, text, Ask(prompt=(5,), stop=("nothing", "ance is P")))
    assert told(given) == " The capital of Fr"
    consumed = next(n for n in range(len(words)) if "ance is P" in text._tokenizer.decode(words[:n]))
    assert (given[-1].finish, given[-1].completion_tokens) == (Finish.STOP, consumed)
    assert sum(len(piece.tokens) for piece in given) == consumed
    assert len(engine.cancelled) == (step < 100)
    assert engine.running == {}


def test_what_could_have_been_a_stop_text_is_told_at_the_end(text: Text, words: list[int]) -> None:
    given = pieces(Scripted(saying(words)), text, Ask(prompt=(5,), max_tokens=len(words), stop=("Paris. Or",)))
    assert told(given) == " The capital of France is Paris."
    assert given[-1].finish is Finish.LENGTH


def test_a_stop_text_that_the_rest_of_a_character_completes(text: Text) -> None:
    half = [*text.encode("a🙂", most=100).tokens][:-1]
    given = pieces(Scripted(saying(half)), text, Ask(prompt=(5,), max_tokens=len(half), stop=("\ufffd",)))
    assert (told(given), given[-1].finish) == ("a", Finish.STOP)


def test_scores_stand_beside_their_tokens(text: Text, words: list[int]) -> None:
    given = pieces(Scripted(saying(words, step=2)), text, Ask(prompt=(5,), max_tokens=5, logprobs=1))
    assert [(len(piece.tokens), len(piece.scores)) for piece in given] == [(2, 2), (2, 2), (1, 1)]


def test_a_model_without_a_tokenizer_answers_ids_by_ids(words: list[int]) -> None:
    given = pieces(Scripted(saying(words, end=2)), None, Ask(prompt=(5, 6), max_tokens=3))
    assert [(piece.text, piece.tokens) for piece in given] == [("", (word,)) for word in words[:3]]
    assert given[-1].finish is Finish.LENGTH


@pytest.mark.parametrize("ask", [Ask(prompt="text"), Ask(messages=({"role": "user", "content": "text"},))])
def test_a_model_without_a_tokenizer_takes_no_text(ask: Ask) -> None:
    refused = refusal(Scripted(saying([])), None, ask)
    assert refused.message == (
        "this model has no tokenizer (tokenizer.json), so that it takes token ids only: "
        "ask /v1/completions with a list of ids as `prompt`"
    )
    assert refused.parameter == ("messages" if ask.messages else "prompt")


def test_a_model_without_a_tokenizer_knows_no_stop_text() -> None:
    refused = refusal(Scripted(saying([])), None, Ask(prompt=(5,), stop=("a",)))
    assert refused.message == "this model has no tokenizer, so that it knows no text: `stop` is not possible"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            Ask(prompt=(5,) * 64),
            "this model's context holds 64 tokens; asked are 64 of the prompt and 1 of the answer",
        ),
        (
            Ask(prompt=(5,) * 60, max_tokens=5),
            "this model's context holds 64 tokens; asked are 60 of the prompt and 5 of the answer",
        ),
    ],
)
def test_what_the_context_cannot_hold(ask: Ask, message: str, text: Text) -> None:
    refused = refusal(Scripted(saying([])), text, ask)
    assert (refused.message, refused.code) == (message, "context_length_exceeded")


def test_the_context_holds_the_answer_to_its_last_token(text: Text) -> None:
    assert pieces(Scripted(saying([9] * 5)), text, Ask(prompt=(5,) * 60, max_tokens=4))[-1].completion_tokens == 4
    assert pieces(Scripted(saying([9] * 5)), text, Ask(prompt=(5,) * 60))[-1].completion_tokens == 4


@pytest.mark.parametrize("prompt", [(5, 400), (-1, 5), (5, 1 << 80)])
def test_ids_that_the_model_has_not(prompt: tuple[int, ...], text: Text) -> None:
    unknown = next(token for token in prompt if token != 5)
    refused = refusal(Scripted(saying([])), text, Ask(prompt=prompt))
    assert refused.message == f"token {unknown} is not in this model's vocabulary, which has 400 tokens"


def test_a_prompt_without_tokens(text: Text) -> None:
    assert refusal(Scripted(saying([])), text, Ask(prompt="")).message == "`prompt` has no tokens"


@pytest.mark.parametrize(
    ("ask", "ability"),
    [
        (Ask(prompt=(5,), temperature=0.5), Ability.TEMPERATURE),
        (Ask(prompt=(5,), temperature=0.5, top_p=0.5), Ability.TOP_P),
        (Ask(prompt=(5,), temperature=0.5, seed=1), Ability.SEED),
        (Ask(prompt=(5,), logprobs=1), Ability.LOGPROBS),
    ],
)
def test_what_the_engine_cannot_do(ask: Ask, ability: Ability, text: Text) -> None:
    engine = Scripted(saying([9, 9]), abilities=set(Ability) - {ability})
    refused = refusal(engine, text, ask)
    assert (refused.message, refused.parameter) == (
        f"scripted:one has no `{ability}` as it is served here; leave it out",
        ability,
    )
    pieces(engine, text, replace(ask, temperature=0.0, logprobs=0))  # greedy, top_p and seed mean nothing


def test_what_becomes_of_an_engine(text: Text) -> None:
    engine = Scripted(saying([9]))
    assert upstream(engine, text).ready
    engine.ready = False
    assert not upstream(engine, text).ready
    with pytest.raises(Unavailable, match="the engine is loading"):
        pieces(engine, text, Ask(prompt=(5,)))


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (Delta(id="1", finish=Finish.ERROR, message="no blocks left"), "scripted:one could not answer: no blocks left"),
        (Delta(id="1", finish=Finish.CANCELLED), "scripted:one could not answer: cancelled"),
        (None, "scripted:one stopped without an end of the answer"),
    ],
)
def test_an_engine_that_fails_for_one_request(last: Delta | None, message: str, text: Text) -> None:
    def script(request: Request) -> Iterable[Delta]:
        yield Delta(id=request.id, tokens=(9,))
        if last:
            yield last

    with pytest.raises(Failed) as caught:
        pieces(Scripted(script), text, Ask(prompt=(5,)))
    assert caught.value.message == message


def test_whoever_closes_an_answer_frees_the_engine_s_place(text: Text) -> None:
    engine = Scripted(saying([9] * 50))

    async def leave() -> None:
        answer = upstream(engine, text).answer(Ask(prompt=(5,)))
        await anext(answer)
        assert len(engine.running) == 1
        await answer.aclose()  # type: ignore[attr-defined]
        assert (engine.running, len(engine.cancelled)) == ({}, 1)

    asyncio.run(leave())


def test_other_answers_go_on_while_a_long_prompt_is_encoded(text: Text) -> None:
    """It is encoded on another thread, and without Python's lock."""
    engine = Scripted(saying([9] * 400), step_s=0.001)
    long = " ".join(str(number) for number in range(150_000))  # more than a million characters

    async def both() -> tuple[int, int]:
        model = TokenUpstream(engine, text, context_tokens=1_000_000, vocab_size=400)
        other = model.answer(Ask(prompt=(5,), max_tokens=400))
        await anext(other)
        encoding = asyncio.ensure_future(anext(model.answer(Ask(prompt=long, max_tokens=1))))
        meanwhile = 0
        async for _ in other:
            if not encoding.done():
                meanwhile += 1
        return meanwhile, (await encoding).prompt_tokens

    meanwhile, prompt_tokens = asyncio.run(both())
    assert prompt_tokens > 100_000
    assert meanwhile > 20
