"""The API as its users meet it: a real server, asked by the openai client."""

import asyncio
import json

import openai
import pytest

from selector.serve.language.text import Text
from tests.selector.serve.api.asked import ANSWER, USER
from tests.selector.serve.language.tokenizers_of_tests import HARD, TURN_END
from tests.selector.serve.scripted import Scripted, counting, saying
from tests.selector.serve.serving import events, served, until


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
