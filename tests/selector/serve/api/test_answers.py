"""Chunks of a stream: those that are written short are, byte for byte, what they would be otherwise."""

import json

from hypothesis import given
from hypothesis import strategies as st

from calibration.engine.streams import Finish, TokenScores
from selector.serve.api.answers import Answer, ChatAnswer, CompletionAnswer, event, number_token
from selector.serve.api.body.ask import Body
from selector.serve.upstream import Ask, Piece

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PIECES = st.builds(
    Piece,
    text=TEXTS,
    tokens=st.lists(st.integers(0, 1 << 20), max_size=3).map(tuple),
    finish=st.sampled_from([None, None, None, Finish.STOP, Finish.LENGTH]),
    prompt_tokens=st.just(2),
)


def the_long_way(answer: Answer, index: int, piece: Piece) -> bytes:
    """The event that tells a piece, every field of it written anew."""
    usage = {"usage": None} if answer._body.usage_in_stream else {}
    head = answer._head(answer.chunk_kind, piece)
    return event({**head, "choices": [answer._delta(index, piece)], **usage})


@given(st.data(), TEXTS, st.booleans(), st.booleans())
def test_a_chunk_written_short_is_what_it_would_be_otherwise(
    data: st.DataObject, model: str, usage: bool, token_ids: bool
) -> None:
    pieces = data.draw(st.lists(st.tuples(st.integers(0, 1), PIECES), min_size=1, max_size=8))
    asks = (Ask(prompt=(1,)), Ask(prompt=(2,)))
    body = Body(model=model, asks=asks, stream=True, usage_in_stream=usage, token_ids=token_ids)
    completion, chat = CompletionAnswer(body, number_token), ChatAnswer(body, number_token)
    for place, (index, piece) in enumerate(pieces):
        assert completion.chunk(index, piece) == the_long_way(completion, index, piece)
        told = chat.chunk(index, piece)
        if place:  # the first one tells the role, and that once
            assert told == the_long_way(chat, index, piece)
        assert told == event(json.loads(told.decode().removeprefix("data: ")))


def test_what_a_plain_chunk_lacks_is_told_all_the_same() -> None:
    body = Body(model="tiny", asks=(Ask(prompt=(1,)),), stream=True, token_ids=True, likeliest=1)
    answer = CompletionAnswer(body, number_token)
    scores = (TokenScores(chosen=-0.5, likeliest=((7, -0.5),)),)
    first = Piece(text="a", tokens=(7,), prompt=(1,), scores=scores)
    for piece, plain in ((first, False), (Piece(text="b", tokens=(8,)), True), (first, False)):
        [choice] = json.loads(answer.chunk(0, piece).decode().removeprefix("data: "))["choices"]
        assert (choice["text"], choice["token_ids"]) == (piece.text, list(piece.tokens))
        assert ("prompt_token_ids" not in choice, choice["logprobs"] is None) == (plain, plain)
