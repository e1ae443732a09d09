"""Bodies: what is read of them, and what is refused with which words."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selector.serve.api.body.ask import Body, parse, read_chat, read_completion
from selector.serve.api.errors import error_response
from selector.serve.upstream import Ask, Refused

PLAIN = {"model": "m", "prompt": "Hello"}
NAMES = """model messages prompt max_tokens max_completion_tokens stream stream_options stop temperature top_p seed
    logprobs top_logprobs ignore_eos min_tokens return_token_ids chat_template_kwargs n tools tool_choice logit_bias
    user response_format frobnicate""".split()
ODD_NAMES = ["\ud800", "x" * 5000, "", "世界"]
PLAIN_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["user", "text", "content", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "include_usage", "name"]) | st.text(), inner
        )
    ),
    max_leaves=12,
)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def refusal(body: dict[str, Any]) -> tuple[str, str | None]:
    """The message, and the field that is to blame."""
    with pytest.raises(Refused) as caught:
        (read_chat if "messages" in body else read_completion)(body)
    assert caught.value.status == 400
    return caught.value.message, caught.value.parameter


def test_a_completion_without_settings_is_greedy_and_as_long_as_the_context_holds() -> None:
    assert read_completion(PLAIN) == Body(model="m", asks=(Ask(prompt="Hello"),))
    assert read_chat(CHAT) == Body(model="m", asks=(Ask(messages=({"role": "user", "content": "Hello"},)),))


def test_every_setting_of_a_completion() -> None:
    body = PLAIN | {
        "max_tokens": 7, "ignore_eos": True, "stop": ["a", "b"], "temperature": 1, "top_p": 0.5, "seed": 3,
        "logprobs": 2, "stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True,
    }  # fmt: skip
    ask = Ask(
        prompt="Hello", max_tokens=7, ignore_end=True, stop=("a", "b"), temperature=1.0, top_p=0.5, seed=3, logprobs=2
    )
    assert read_completion(body) == Body(
        model="m", asks=(ask,), stream=True, usage_in_stream=True, token_ids=True, likeliest=2
    )


def test_every_setting_of_a_chat() -> None:
    body = CHAT | {
        "max_completion_tokens": 7, "stop": "end", "temperature": 0.5, "logprobs": True, "top_logprobs": 4,
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    ask = Ask(
        messages=({"role": "user", "content": "Hello"},),
        max_tokens=7,
        stop=("end",),
        temperature=0.5,
        logprobs=4,
        template={"enable_thinking": False},
    )
    assert read_chat(body) == Body(model="m", asks=(ask,), likeliest=4)


def test_the_chosen_token_s_logprob_alone_is_asked_of_the_engine_with_one_of_the_likeliest() -> None:
    for read in (read_completion(PLAIN | {"logprobs": 0}), read_chat(CHAT | {"logprobs": True})):
        assert (read.likeliest, read.asks[0].logprobs) == (0, 1)
    assert read_chat(CHAT | {"logprobs": False}).likeliest is None


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("text", ["text"]),
        ([5, 6], [(5, 6)]),
        (["text"], ["text"]),
        (["one", "two"], ["one", "two"]),
        ([[5, 6], [7]], [(5, 6), (7,)]),
    ],
)
def test_prompts(prompt: object, prompts: list[str | tuple[int, ...]]) -> None:
    assert [ask.prompt for ask in read_completion({"model": "m", "prompt": prompt}).asks] == prompts


@pytest.mark.parametrize("prompt", [None, [], [True], [1.5], [5, "text"], ["text", [5]], [[5], []], [[5, "a"]], {}, 5])
def test_what_is_no_prompt(prompt: object) -> None:
    message = "`prompt` needs to be a text, a list of token ids, or a list of such prompts"
    assert refusal({"model": "m", "prompt": prompt}) == (message, "prompt")


def test_the_parts_of_a_message_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    [ask] = read_chat({"model": "m", "messages": [{"role": "user", "content": parts, "name": "Ann"}]}).asks
    assert ask.messages == ({"role": "user", "content": "one\ntwo", "name": "Ann"},)


def test_an_answer_that_the_client_sends_back_is_a_message() -> None:
    answer: dict[str, Any] = {
        "role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "audio": None, "function_call": None,
        "tool_calls": None,
    }  # fmt: skip
    [ask] = read_chat({"model": "m", "messages": [*CHAT["messages"], answer]}).asks
    assert ask.messages == ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"})


@pytest.mark.parametrize(
    ("fields", "message", "parameter"),
    [
        ({"n": 2}, "`n` = 2 is not possible with this server; it takes only 1", "n"),
        ({"n": True}, "`n` = true is not possible with this server; it takes only 1", "n"),
        ({"best_of": 3}, "`best_of` = 3 is not possible with this server; it takes only 1", "best_of"),
        ({"echo": True}, "`echo` = true is not possible with this server; it takes only false", "echo"),
        ({"suffix": "s"}, '`suffix` = "s" is not possible with this server; it takes only ""', "suffix"),
        (
            {"presence_penalty": 0.5},
            "`presence_penalty` = 0.5 is not possible with this server; it takes only 0",
            "presence_penalty",
        ),
        ({"top_k": 40}, "`top_k` = 40 is not possible with this server; it takes only 0 or -1", "top_k"),
        (
            {"logit_bias": {"5": 1}},
            '`logit_bias` = {"5": 1} is not possible with this server; it takes only {}',
            "logit_bias",
        ),
        (
            {"response_format": {"type": "json"}},
            '`response_format` = {"type": "json"} is not possible with this server; it takes only {"type": "text"}',
            "response_format",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
            '`tools` = [{"type": "function", "function": {"nam… is not possible with this server; it takes only []',
            "tools",
        ),
        (
            {"prediction": {"content": "x"}},
            '`prediction` = {"content": "x"} is not possible with this server',
            "prediction",
        ),
        ({"frobnicate": 1}, "`frobnicate` is not a field that this server knows", "frobnicate"),
        (
            {"model": None},
            "`model` needs to be the name of a model; GET /v1/models lists those that are served",
            "model",
        ),
        ({"model": 5}, "`model` needs to be the name of a model; GET /v1/models lists those that are served", "model"),
        ({"max_tokens": 0}, "`max_tokens` needs to be at least 1; found 0", "max_tokens"),
        ({"max_tokens": "5"}, '`max_tokens` needs to be a whole number; found "5"', "max_tokens"),
        ({"max_tokens": True}, "`max_tokens` needs to be a whole number; found true", "max_tokens"),
        (
            {"max_tokens": 5, "max_completion_tokens": 6},
            "`max_tokens` is 5 and `max_completion_tokens` is 6: give one of them",
            "max_tokens",
        ),
        ({"temperature": 3}, "`temperature` needs to be a number between 0 and 2; found 3", "temperature"),
        ({"temperature": "hot"}, '`temperature` needs to be a number between 0 and 2; found "hot"', "temperature"),
        ({"temperature": True}, "`temperature` needs to be a number between 0 and 2; found true", "temperature"),
        ({"top_p": 0}, "`top_p` needs to be more than 0", "top_p"),
        ({"top_p": -0.1}, "`top_p` needs to be a number between 0 and 1; found -0.1", "top_p"),
        ({"seed": -1}, "`seed` needs to be between 0 and 9223372036854775807; found -1", "seed"),
        ({"stop": ["a", ""]}, "`stop` needs to be a text or a list of texts, none of them empty", "stop"),
        ({"stop": [5]}, "`stop` needs to be a text or a list of texts, none of them empty", "stop"),
        ({"stop": list("abcde")}, "`stop` has 5 texts; a request may have 4", "stop"),
        ({"stream": "yes"}, '`stream` needs to be true or false; found "yes"', "stream"),
        ({"stream_options": {"include_usage": True}}, "`stream_options` needs `stream`: true", "stream_options"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "`stream_options.continuous_usage_stats` = true is not possible with this server; it takes only false",
            "stream_options.continuous_usage_stats",
        ),
        (
            {"min_tokens": 5},
            "`min_tokens` needs `ignore_eos`: true and a `max_tokens` that is no less",
            "min_tokens",
        ),
    ],
)
@pytest.mark.parametrize("body", [PLAIN, CHAT], ids=["completion", "chat"])
def test_what_is_refused(body: dict[str, Any], fields: dict[str, Any], message: str, parameter: str) -> None:
    assert refusal(body | fields) == (message, parameter)


@pytest.mark.parametrize(
    ("body", "message", "parameter"),
    [
        (PLAIN | {"logprobs": 21}, "`logprobs` needs to be between 0 and 20; found 21", "logprobs"),
        (PLAIN | {"prompt": "\ud800"}, "`prompt` has half a character (a lone surrogate) at 0", "prompt"),
        (PLAIN | {"prompt": ["a"] * 129}, "`prompt` has 129 prompts; a request may have 128", "prompt"),
        (CHAT | {"logprobs": 5}, "`logprobs` needs to be true or false; found 5", "logprobs"),
        (CHAT | {"top_logprobs": 5}, "`top_logprobs` needs `logprobs`: true", "top_logprobs"),
        (CHAT | {"prompt": "Hello"}, "`prompt` is not a field that this server knows", "prompt"),
    ],
)
def test_what_one_of_the_two_refuses(body: dict[str, Any], message: str, parameter: str) -> None:
    assert refusal(body) == (message, parameter)


@pytest.mark.parametrize(
    ("messages", "message", "parameter"),
    [
        ([], "`messages` needs to be a list of messages", "messages"),
        ("Hello", "`messages` needs to be a list of messages", "messages"),
        (["Hello"], "`messages[0]` needs to be an object with `role` and `content`", "messages[0]"),
        (
            [{"role": "robot", "content": "a"}],
            "`messages[0].role` needs to be one of system, developer, user, assistant; found 'robot'",
            "messages[0].role",
        ),
        (
            [{"role": "tool", "content": "a"}],
            "`messages[0].role` = 'tool' is not possible: this server has no tools",
            "messages[0].role",
        ),
        (
            [{"role": "user"}],
            "`messages[0].content` needs to be a text, or a list of parts of type text",
            "messages[0].content",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}],
            "`messages[0].content[0].type` = 'image_url' is not possible: this server takes text only",
            "messages[0].content[0].type",
        ),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            "`messages[0].content[0].text` is missing",
            "messages[0].content[0].text",
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": [{"id": "1"}]}],
            '`messages[1].tool_calls` = [{"id": "1"}] is not possible with this server; it takes only []',
            "messages[1].tool_calls",
        ),
        (
            [{"role": "user", "content": "a", "weight": 1}],
            "`messages[0].weight` is not a field that this server knows",
            "messages[0].weight",
        ),
        (
            [{"role": "user", "content": "a\udfff"}],
            "`messages[0].content` has half a character (a lone surrogate) at 1",
            "messages[0].content",
        ),
    ],
)
def test_what_is_no_message(messages: object, message: str, parameter: str) -> None:
    assert refusal({"model": "m", "messages": messages}) == (message, parameter)


def test_of_a_long_name_the_beginning_is_told() -> None:
    name = f"{'x' * 100}…"
    assert refusal(PLAIN | {"x" * 5000: 1}) == (f"`{name}` is not a field that this server knows", name)


def test_the_same_limit_by_both_names() -> None:
    assert read_chat(CHAT | {"max_tokens": 5, "max_completion_tokens": 5}).asks[0].max_tokens == 5


def test_messages_beside_a_prompt() -> None:
    """None of them ask for nothing: aiperf wants the field in whatever it sends."""
    assert read_completion(PLAIN | {"messages": []}) == read_completion(PLAIN)
    message = '`messages` = [{"role": "user", "content": "Hello"}] is not possible with this server; it takes only []'
    with pytest.raises(Refused) as caught:
        read_completion(PLAIN | CHAT)
    assert caught.value.message == message


def test_what_asks_for_nothing_is_taken() -> None:
    """Null, the values that are the default anyway, and who asks."""
    nothing: dict[str, Any] = {
        "n": 1, "best_of": 1, "echo": False, "suffix": None, "frequency_penalty": 0.0, "presence_penalty": 0,
        "logit_bias": {}, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "user": "ann",
        "metadata": {"a": "b"}, "top_k": -1, "frobnicate": None, "stream_options": None, "stop": None, "seed": None,
    }  # fmt: skip
    assert read_completion(PLAIN | nothing) == read_completion(PLAIN)
    assert read_chat(CHAT | nothing) == read_chat(CHAT)


def test_as_many_tokens_as_at_most_are_given_by_a_forced_length() -> None:
    forced = {"ignore_eos": True, "max_tokens": 8}
    assert read_completion(PLAIN | forced | {"min_tokens": 8}) == read_completion(PLAIN | forced)


@settings(deadline=None, max_examples=250)
@given(st.dictionaries(st.sampled_from([*NAMES, *ODD_NAMES]), PLAIN_JSON, max_size=6), st.sampled_from([PLAIN, CHAT]))
def test_any_body_is_read_or_refused(fields: dict[str, Any], body: dict[str, Any]) -> None:
    """With a message that can be sent, and is no longer than a screen."""
    for read in (read_completion, read_chat):
        refused = None
        try:
            read({**body, **fields})
        except Refused as caught:
            refused = caught
        if refused:
            answer = error_response(refused)
            assert answer.status_code == 400 and len(answer.body) < 4000


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "the body is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"temperature": NaN}', "the body is not JSON: NaN is no number of JSON"),
        (b"[1]", "the body needs to be a JSON object"),
        (b'{"prompt": "\xff"}', "the body is not UTF-8: invalid start byte at byte 12"),
        (b"[" * 200_000, "the body is nested too deeply"),
    ],
)
def test_what_is_no_body(raw: bytes, message: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(raw)
    assert (caught.value.message, caught.value.status, caught.value.code) == (message, 400, "invalid_json")


def test_a_body_is_an_object_in_utf_8() -> None:
    assert parse('{"prompt": "世界"}'.encode()) == {"prompt": "世界"}
