"""Log probabilities and token ids in the API's answers."""

import math
from collections.abc import Iterable

from calibration.engine.streams import Delta, Finish, Request, TokenScores
from selector.serve.language.text import Text
from tests.selector.serve.api.asked import USER
from tests.selector.serve.scripted import Scripted, saying
from tests.selector.serve.serving import served


def test_logprobs_of_a_completion(text: Text, words: list[int]) -> None:
    name = text.vocabulary.token
    with served(Scripted(saying(words, step=2)), text) as there, there.client() as client:
        whole = client.completions.create(model="tiny", prompt="Hi", max_tokens=3, logprobs=2)
        chunks = client.completions.create(model="tiny", prompt="Hi", max_tokens=3, logprobs=2, stream=True)
        streamed = [chunk.choices[0].logprobs for chunk in chunks]
        bare = client.completions.create(model="tiny", prompt="Hi", max_tokens=1, logprobs=0)
    told = whole.choices[0].logprobs
    assert told is not None and told.tokens is not None
    names = [name(token).text for token in words[:3]]
    assert told.tokens == names
    assert told.token_logprobs == [-0.25] * 3
    assert told.top_logprobs == [{name(t + 1).text: -1.25, name(t).text: -0.25} for t in words[:3]]
    assert told.text_offset == [0, len(names[0]), len(names[0]) + len(names[1])]
    assert [offset for one in streamed if one for offset in one.text_offset or ()] == told.text_offset
    assert [token for one in streamed if one for token in one.tokens or ()] == names
    assert bare.choices[0].logprobs is not None
    assert bare.choices[0].logprobs.top_logprobs is None
    assert bare.choices[0].logprobs.token_logprobs == [-0.25]


def test_logprobs_of_a_chat(text: Text) -> None:
    tokens = text.encode("é", most=10).tokens
    with served(Scripted(saying(tokens)), text) as there, there.client() as client:
        answer = client.chat.completions.create(
            model="tiny", messages=USER, max_tokens=2, logprobs=True, top_logprobs=1
        )
        bare = client.chat.completions.create(model="tiny", messages=USER, max_tokens=2, logprobs=True)
    told = answer.choices[0].logprobs
    assert told is not None and told.content is not None
    assert [one.model_dump() for one in told.content] == [
        {"token": "\ufffd", "bytes": [byte], "logprob": -0.25, "top_logprobs": [
            {"token": "\ufffd", "bytes": [byte], "logprob": -0.25},
        ]}
        for byte in "é".encode()
    ]  # fmt: skip
    assert bare.choices[0].logprobs is not None
    assert [one.top_logprobs for one in bare.choices[0].logprobs.content or ()] == [[], []]


def test_what_is_impossible_has_a_number_that_json_has(text: Text) -> None:
    impossible = TokenScores(chosen=-math.inf, likeliest=((70, -0.5), (71, -math.inf)))

    def script(request: Request) -> Iterable[Delta]:
        yield Delta(id=request.id, tokens=(72,), scores=(impossible,), finish=Finish.LENGTH)

    with served(Scripted(script), text) as there, there.client() as client:
        told = client.completions.create(model="tiny", prompt="Hi", logprobs=2).choices[0].logprobs
    name = text.vocabulary.token
    assert told is not None
    assert told.token_logprobs == [-9999.0]
    assert told.top_logprobs == [{name(70).text: -0.5, name(71).text: -9999.0}]


def test_of_two_tokens_with_one_text_the_likelier_is_told(text: Text) -> None:
    halves = [text.encode(letter, most=10).tokens[1] for letter in "éè"]
    scores = TokenScores(chosen=-0.5, likeliest=((halves[0], -0.5), (halves[1], -1.5)))

    def script(request: Request) -> Iterable[Delta]:
        yield Delta(id=request.id, tokens=(halves[0],), scores=(scores,), finish=Finish.LENGTH)

    with served(Scripted(script), text) as there, there.client() as client:
        told = client.completions.create(model="tiny", prompt="Hi", logprobs=2).choices[0].logprobs
    assert told is not None and told.top_logprobs == [{"\ufffd": -0.5}]


def test_token_ids_are_told_where_they_are_asked_for(text: Text, words: list[int]) -> None:
    with served(Scripted(saying(words, end=2)), text) as there, there.client() as client:
        extra = {"return_token_ids": True}
        whole = client.completions.create(model="tiny", prompt="Hi", extra_body=extra)
        chunks = client.chat.completions.create(model="tiny", messages=USER, stream=True, extra_body=extra)
        streamed = [token for chunk in chunks for token in chunk.choices[0].model_dump()["token_ids"]]
        without = client.completions.create(model="tiny", prompt="Hi")
    assert whole.choices[0].model_dump()["token_ids"] == [*words, 2] == streamed
    assert "token_ids" not in without.choices[0].model_dump()
    assert "prompt_token_ids" not in without.choices[0].model_dump()


def test_the_ids_of_the_prompt_stand_where_vllm_has_them(text: Text, words: list[int]) -> None:
    extra = {"return_token_ids": True}
    with served(Scripted(saying(words)), text) as there, there.client() as client:
        prompts = [[5, 6], [7]]
        whole = client.completions.create(model="tiny", prompt=prompts, max_tokens=2, extra_body=extra)
        chunks = client.completions.create(model="tiny", prompt=prompts, max_tokens=2, stream=True, extra_body=extra)
        told = [(one.index, one.model_dump().get("prompt_token_ids")) for chunk in chunks for one in chunk.choices]
        chat = client.chat.completions.create(model="tiny", messages=USER, max_tokens=2, extra_body=extra)
        chat_chunks = list(
            client.chat.completions.create(model="tiny", messages=USER, max_tokens=2, stream=True, extra_body=extra)
        )
    assert [choice.model_dump()["prompt_token_ids"] for choice in whole.choices] == prompts
    assert sorted((index, ids) for index, ids in told if ids) == [(0, [5, 6]), (1, [7])]
    ids = list(text.encode_chat(USER, None, most=500).tokens)
    assert chat.model_dump()["prompt_token_ids"] == ids
    assert [chunk.model_dump().get("prompt_token_ids") for chunk in chat_chunks] == [ids, None]
