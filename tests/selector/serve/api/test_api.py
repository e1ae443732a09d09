"""The API as its users meet it: a real server, asked by the openai client."""

import asyncio
import json
import math
from collections.abc import Iterable

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from calibration.streams import Ability, Delta, Finish, Request, TokenScores
from selector.serve.language.text import Text
from selector.serve.upstream import Ask, Piece
from tests.selector.serve.language.tokenizers_of_tests import HARD, TURN_END
from tests.selector.serve.scripted import Scripted, counting, saying
from tests.selector.serve.serving import events, served, until, with_keys

ANSWER = " The capital of France is Paris."
USER = [ChatCompletionUserMessageParam(role="user", content="What is the capital of France?")]


def test_a_completion(text: Text, words: list[int]) -> None:
    with served(Scripted(saying(words, end=0)), text) as there, there.client() as client:
        answer = client.completions.create(model="tiny", prompt="What is the capital of France?")
    [choice] = answer.choices
    assert (choice.text, choice.finish_reason, choice.index, choice.logprobs) == (ANSWER, "stop", 0, None)
    assert (answer.object, answer.model, answer.id[:5]) == ("text_completion", "tiny", "cmpl-")
    prompt_tokens = len(text.encode("What is the capital of France?", most=100).tokens)
    assert answer.usage is not None
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": len(words) + 1,
        "total_tokens": prompt_tokens + len(words) + 1,
    }


def test_a_completion_in_a_stream(text: Text, words: list[int]) -> None:
    with served(Scripted(saying(words)), text) as there, there.client() as client:
        chunks = list(client.completions.create(model="tiny", prompt="Hi", max_tokens=len(words), stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER
    assert len(chunks) == len(words)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(words) - 1) + ["length"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.usage for chunk in chunks} == {None}


def test_a_chat(text: Text, words: list[int]) -> None:
    engine = Scripted(saying(words, end=2))
    with served(engine, text) as there, there.client() as client:
        answer = client.chat.completions.create(model="small", messages=USER)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER, "stop")
    assert (answer.object, answer.model, answer.id[:9]) == ("chat.completion", "small", "chatcmpl-")
    chat = f"<|im_start|>user\nWhat is the capital of France?{TURN_END}\n<|im_start|>assistant\n"
    assert engine.requests[0].prompt == tuple(text._tokenizer.encode(chat).ids)


def test_a_chat_in_a_stream_with_its_usage(text: Text, words: list[int]) -> None:
    with served(Scripted(saying(words, end=2)), text) as there, there.client() as client:
        *chunks, last = client.chat.completions.create(
            model="tiny", messages=USER, stream=True, stream_options={"include_usage": True}
        )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * len(words)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * len(words) + ["stop"]
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert last.choices == [] and last.usage is not None
    assert last.usage.completion_tokens == len(words) + 1


def test_the_client_s_own_way_to_gather_a_stream(text: Text, words: list[int]) -> None:
    with (
        served(Scripted(saying(words, end=2)), text) as there,
        there.client() as client,
        client.chat.completions.stream(model="tiny", messages=USER, logprobs=True, top_logprobs=1) as stream,
    ):
        told = [event.delta for event in stream if event.type == "content.delta"]
        [choice] = stream.get_final_completion().choices
    assert "".join(told) == ANSWER == choice.message.content
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert choice.logprobs is not None and len(choice.logprobs.content or ()) == len(words) + 1


def test_a_stream_ends_with_done(text: Text, words: list[int]) -> None:
    body = {"model": "tiny", "prompt": "Hi", "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}
    with served(Scripted(saying(words)), text) as there:
        answer = there.ask("POST", "/v1/completions", body)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    *chunks, usage, done = events(answer.body)
    assert done == "[DONE]"
    assert [json.loads(chunk)["usage"] for chunk in chunks] == [None, None]
    assert json.loads(usage)["choices"] == []


def test_characters_come_whole(text: Text) -> None:
    tokens = text.encode(HARD * 5, most=500).tokens
    with served(Scripted(saying(tokens)), text) as there, there.client() as client:
        chunks = client.chat.completions.create(model="tiny", messages=USER, max_tokens=len(tokens), stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
        whole = client.chat.completions.create(model="tiny", messages=USER, max_tokens=len(tokens))
    assert "".join(pieces) == HARD * 5 == whole.choices[0].message.content
    assert not any("\ufffd" in piece for piece in pieces)
    assert pieces.count("") > 100


def test_a_stop_text_over_several_tokens(text: Text, words: list[int]) -> None:
    engine = Scripted(saying(words * 10))
    with served(engine, text) as there, there.client() as client:
        whole = client.completions.create(model="tiny", prompt="Hi", stop=["France is", "Rome"])
        chunks = list(client.completions.create(model="tiny", prompt="Hi", stop="France is", stream=True))
        until(lambda: len(engine.cancelled) == 2)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (" The capital of ", "stop")
    assert "".join(chunk.choices[0].text for chunk in chunks) == " The capital of "
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert engine.running == {}


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


def test_a_forced_length(text: Text, words: list[int]) -> None:
    with served(Scripted(saying(words, end=0)), text) as there, there.client() as client:
        answer = client.completions.create(
            model="tiny", prompt=[5, 6], max_tokens=4, extra_body={"ignore_eos": True, "min_tokens": 4}
        )
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)
    assert answer.choices[0].finish_reason == "length"


def test_several_prompts_are_several_choices(text: Text) -> None:
    with served(Scripted(counting), text) as there, there.client() as client:
        prompts = [[70, 1], [80, 1], [90, 1]]
        whole = client.completions.create(model="tiny", prompt=prompts, max_tokens=2)
        chunks = list(client.completions.create(model="tiny", prompt=prompts, max_tokens=2, stream=True))
        texts = client.completions.create(model="tiny", prompt=["Hi", "Ho"], max_tokens=2)
    decode = text._tokenizer.decode
    expected = [decode([first, first + 1]) for first in (70, 80, 90)]
    assert [(choice.index, choice.text) for choice in whole.choices] == list(enumerate(expected))
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (6, 6)
    streamed = ["", "", ""]
    for chunk in chunks:
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected
    assert [chunk.choices[0].finish_reason for chunk in chunks].count("length") == 3
    assert len(texts.choices) == 2


def test_one_of_several_prompts_that_cannot_be_answered(text: Text) -> None:
    engine = Scripted(counting, step_s=0.001)
    with served(engine, text) as there, there.client() as client:
        with pytest.raises(openai.BadRequestError, match="token 9999 is not in this model's vocabulary"):
            client.completions.create(model="tiny", prompt=[[70], [9999]], max_tokens=400)
        until(lambda: engine.running == {})


def test_a_model_without_a_tokenizer(words: list[int]) -> None:
    with served(Scripted(saying(words))) as there, there.client() as client:
        answer = client.completions.create(
            model="tiny", prompt=[5, 6], max_tokens=3, logprobs=1, extra_body={"return_token_ids": True}
        )
        with pytest.raises(openai.BadRequestError, match="takes token ids only") as caught:
            client.chat.completions.create(model="tiny", messages=USER)
    assert (answer.choices[0].text, answer.choices[0].model_dump()["token_ids"]) == ("", words[:3])
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == [f"token_id:{word}" for word in words[:3]]
    assert caught.value.code == "no_tokenizer"


def test_64_connections_at_once(text: Text) -> None:
    engine = Scripted(counting, slots=8, step_s=0.0005)

    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        if number % 2:
            answer = await client.completions.create(model="tiny", prompt=[number + 3], max_tokens=20)
            return answer.choices[0].text
        stream = await client.completions.create(model="tiny", prompt=[number + 3], max_tokens=20, stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def all_at_once(url: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(64)))

    with served(engine, text) as there:
        answers = asyncio.run(all_at_once(there.url))
    decode = text._tokenizer.decode
    assert answers == [decode(list(range(number + 3, number + 23))) for number in range(64)]
    assert engine.most_running == 8
    assert (engine.running, engine.cancelled) == ({}, [])


def test_a_prompt_beyond_the_context(text: Text) -> None:
    with served(Scripted(saying([9])), text) as there, there.client() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="tiny", prompt=[5] * 600)
        with pytest.raises(openai.BadRequestError) as longer:
            client.completions.create(model="tiny", prompt=[5] * 500, max_tokens=13)
    limit = "this model's context holds 512 tokens; asked are"
    assert caught.value.body == {
        "message": f"{limit} 600 of the prompt and 1 of the answer",
        "type": "invalid_request_error",
        "param": "prompt",
        "code": "context_length_exceeded",
    }
    assert longer.value.body["message"] == f"{limit} 500 of the prompt and 13 of the answer"  # type: ignore[index]


def test_what_the_engine_cannot_do(text: Text) -> None:
    engine = Scripted(saying([9]), abilities=[Ability.LOGPROBS])
    with served(engine, text) as there, there.client() as client:
        with pytest.raises(openai.BadRequestError, match="scripted:one has no `temperature` as it is served here"):
            client.chat.completions.create(model="tiny", messages=USER, temperature=0.7)
        with pytest.raises(openai.BadRequestError, match="`n` = 2 is not possible with this server; it takes only 1"):
            client.chat.completions.create(model="tiny", messages=USER, n=2)
    assert engine.requests == []


def test_models(text: Text) -> None:
    with served(Scripted(saying([9])), text) as there, there.client() as client:
        models = client.models.list().data
        small = client.models.retrieve("small")
        with pytest.raises(openai.NotFoundError, match="there is no model 'large' here; served are: tiny, small"):
            client.models.retrieve("large")
    assert [(model.id, model.owned_by, model.model_dump()["max_model_len"]) for model in models] == [
        ("tiny", "autobackend", 512),
        ("small", "autobackend", 512),
    ]
    assert small == models[1]


def test_a_model_that_is_not_served(text: Text) -> None:
    engine = Scripted(saying([9]))
    with served(engine, text) as there, there.client() as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-6", messages=USER)
    assert caught.value.body == {
        "message": "there is no model 'gpt-6' here; served are: tiny, small",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert engine.requests == []


def test_keys(text: Text) -> None:
    with served(Scripted(saying([9])), text, settings=with_keys("first", "sécond")) as there:
        for key in ("first", "sécond"):
            status = there.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"}).status
            assert status == 200
        both = {"Authorization": "Bearer first", "authorization": "Bearer none"}
        with there.client("firs") as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        for headers in (
            {},
            {"Authorization": "first"},
            {"Authorization": "Basic first"},
            {"Authorization": "Bearer "},
            both,
        ):
            answer = there.ask("GET", "/v1/nothing", headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert there.ask("GET", "/health").status == 200
    assert caught.value.body == {
        "message": "this server wants a key: the header `Authorization: Bearer KEY`",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }


def test_health_and_an_engine_that_is_not_there(text: Text) -> None:
    engine = Scripted(saying([9, 9]))
    with served(engine, text) as there, there.client() as client:
        assert there.ask("GET", "/health").body == b'{"status":"ok"}'
        engine.ready = False
        answer = there.ask("GET", "/health")
        assert (answer.status, answer.headers["retry-after"], answer.error["type"]) == (503, "5", "service_unavailable")
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError, match="the engine is loading") as caught:
                client.completions.create(model="tiny", prompt="Hi", stream=stream)
            assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (503, "3")
        engine.ready = True
        assert client.completions.create(model="tiny", prompt="Hi", max_tokens=1).choices[0].finish_reason == "length"


def test_metrics_are_open_and_whoever_has_them_gives_them(text: Text) -> None:
    kind = "text/plain; version=1.0.0; charset=utf-8"
    with served(
        Scripted(saying([9])), text, settings=with_keys("key"), metrics=lambda: (b"requests 5\n", kind)
    ) as there:
        answer = there.ask("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, b"requests 5\n")


class Recorder:
    """An observer, and all its observations."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def arrived(self, ask: Ask) -> "Recorder":
        self.heard.append(ask.max_tokens)
        return self

    def refused(self, status: int) -> None:
        self.heard.append(status)

    def gave(self, piece: Piece) -> None:
        self.heard.append((piece.tokens, piece.completion_tokens))

    def ended(self, finish: Finish | None) -> None:
        self.heard.append(finish)


def test_an_observer_hears_of_every_request(text: Text) -> None:
    heard = Recorder()
    engine = Scripted(counting)
    with served(engine, text, observer=heard, settings=with_keys("key")) as there, there.client("key") as client:
        client.completions.create(model="tiny", prompt=[70], max_tokens=2)
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="tiny", prompt=[9999], max_tokens=3)
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="other", prompt=[70])
        there.ask("GET", "/v1/models")
        engine.ready = False
        with pytest.raises(openai.InternalServerError):
            client.completions.create(model="tiny", prompt=[70], max_tokens=4)
    assert heard.heard == [
        2, ((70,), 0), ((71,), 2), Finish.LENGTH,
        3, None, 400,
        404,
        401,
        4, Finish.ERROR, 503,
    ]  # fmt: skip
