"""What the API refuses, whom it lets in, and what it tells of itself."""

import openai
import pytest

from calibration.engine.streams import Ability, Finish
from selector.serve.language.text import Text
from tests.selector.serve.api.asked import USER
from tests.selector.serve.api.recorder import Recorder
from tests.selector.serve.scripted import Scripted, counting, saying
from tests.selector.serve.serving import served, with_keys


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
