"""How an ask is put to an engine's own server, and what the events of its answer say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from calibration.engine.server import OwnServer, ServerPlace
from calibration.engine.streams import TokenScores
from selector.serve.upstream import Ask, Refused

CHARACTERS_A_TOKEN = 128
"""Of the longest tokens, runs of spaces (cl100k_base, and so Llama 3). A text that has more of them for each token of
the context is too long, whatever the tokenizer; llama-server takes 3 s to find that out of three million."""

Event = Mapping[str, Any]
"""The JSON of a server-sent event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one event says of an answer."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    scores: tuple[TokenScores, ...] = ()
    finish: str | None = None
    """In the server's words; None: it goes on."""
    counts: tuple[int, int] | None = None
    """Tokens of the prompt and of the whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to a server, and how its events are read."""

    path: str
    body: Mapping[str, object]
    read: Callable[[Event], Part]
    """Raises KeyError, TypeError, ValueError or AttributeError for what is no event of such an answer."""
    whole: bool = False
    """The answer is one such event, and no stream of them."""


def call(ask: Ask, server: OwnServer, place: ServerPlace, *, vocab_size: int, name: str) -> Call:
    """The request that asks a server for an answer.

    Args:
        vocab_size: ids of a prompt are below it.
        name: of the engine, for refusals.

    Raises:
        Refused: the server cannot do what is asked.
    """
    _refuse_unheeded(ask, server, name)
    if isinstance(ask.prompt, tuple):
        _check_tokens(ask, ask.prompt, place.context_tokens, vocab_size)
        return _of_tokens(ask, ask.prompt, server, place)
    _check_text(ask, place.context_tokens)
    body = {**_common(ask, server, place), "max_tokens": ask.max_tokens, "stream_options": {"include_usage": True}}
    if ask.prompt is None:
        body["messages"] = list(ask.messages or ())
        if ask.template:
            body["chat_template_kwargs"] = dict(ask.template)
        if ask.logprobs:
            body |= {"logprobs": True, "top_logprobs": ask.logprobs}
        return Call(path="/v1/chat/completions", body=body, read=_read_chat)
    return _completion(ask, ask.prompt, body)


def with_limit(ask: Ask, count: int, context_tokens: int) -> Ask:
    """An ask for as many tokens as the context holds, told as a number.

    Args:
        count: of its prompt's tokens.

    Raises:
        Refused: the context holds no more.
    """
    if count >= context_tokens:
        raise _too_long(context_tokens, f"{count}", 1, "prompt")
    return replace(ask, max_tokens=context_tokens - count)


def _of_tokens(ask: Ask, prompt: tuple[int, ...], server: OwnServer, place: ServerPlace) -> Call:
    max_tokens = place.context_tokens - len(prompt) if ask.max_tokens is None else ask.max_tokens
    if ask.whole_ids and server.whole_path:
        return _in_one_piece(ask, prompt, max_tokens, server, place)
    body = {**_common(ask, server, place), "max_tokens": max_tokens}
    if server.takes_token_ids:
        return _completion(ask, list(prompt), {**body, "stream_options": {"include_usage": True}})
    return Call(path="/generate", body={**body, "input_ids": list(prompt)}, read=_read_generated)


def _in_one_piece(ask: Ask, prompt: tuple[int, ...], max_tokens: int, server: OwnServer, place: ServerPlace) -> Call:
    body = {
        **_common(ask, server, place),
        "stream": False,
        "prompt": list(prompt),
        "n_predict": max_tokens,
        "return_tokens": True,
    }
    return Call(path=server.whole_path, body=body, read=_read_whole, whole=True)


def _completion(ask: Ask, prompt: str | list[int], body: dict[str, object]) -> Call:
    scored = {"logprobs": ask.logprobs} if ask.logprobs else {}
    return Call(path="/v1/completions", body={**body, "prompt": prompt, **scored}, read=_read_completion)


def _common(ask: Ask, server: OwnServer, place: ServerPlace) -> dict[str, object]:
    """The fields that have the same names wherever they are sent."""
    body: dict[str, object] = {"model": place.served_name, "stream": True, **server.fields}
    if ask.temperature > 0:
        body |= {"temperature": ask.temperature, "top_p": ask.top_p, **server.sampled}
        body |= {} if ask.seed is None else {"seed": ask.seed}
    else:
        body |= server.greedy
    body |= {"stop": list(ask.stop)} if ask.stop else {}
    body |= server.forced_length if ask.ignore_end else {}
    body |= server.scored if ask.logprobs else {}
    return body


def _check_tokens(ask: Ask, prompt: tuple[int, ...], context_tokens: int, vocab_size: int) -> None:
    """Refuse what the model or the context cannot take: what a server does with it differs, up to its end."""
    wanted = ask.max_tokens or 1
    if len(prompt) + wanted > context_tokens:
        raise _too_long(context_tokens, f"{len(prompt)}", wanted, "prompt")
    for token in prompt:
        if not 0 <= token < vocab_size:
            raise Refused(
                f"token {token} is not in this model's vocabulary, which has {vocab_size} tokens", parameter="prompt"
            )


def _check_text(ask: Ask, context_tokens: int) -> None:
    """Refuse at once what is much longer than the context; of everything else the server counts the tokens."""
    if isinstance(ask.prompt, str):
        field, texts = "prompt", [ask.prompt]
    else:
        field, texts = "messages", [str(message.get("content") or "") for message in ask.messages or ()]
    least = sum(map(len, texts)) // CHARACTERS_A_TOKEN
    if least > context_tokens:
        raise _too_long(context_tokens, f"at least {least}", ask.max_tokens or 1, field)


def _too_long(context_tokens: int, prompt: str, wanted: int, field: str) -> Refused:
    return Refused(
        f"this model's context holds {context_tokens} tokens; asked are {prompt} of the prompt and {wanted} of the"
        " answer",
        parameter=field,
        code="context_length_exceeded",
    )


def _refuse_unheeded(ask: Ask, server: OwnServer, name: str) -> None:
    sampled = ask.temperature > 0
    wanted = {
        "temperature": sampled,
        "top_p": sampled and ask.top_p < 1,
        "seed": sampled and ask.seed is not None,
        "stop": bool(ask.stop),
        "logprobs": ask.logprobs > 0,
    }
    for parameter, is_wanted in wanted.items():
        if is_wanted and parameter not in server.parameters:
            message = f"{name} has no `{parameter}` as it is served here; leave it out"
            raise Refused(message, parameter=parameter, code="unsupported")


def _read_completion(event: Event) -> Part:
    return _read_choice(event, lambda choice: choice.get("text"))


def _read_chat(event: Event) -> Part:
    return _read_choice(event, lambda choice: choice["delta"].get("content"))


def _read_choice(event: Event, text_of: Callable[[Mapping[str, Any]], str | None]) -> Part:
    """Of an event with one choice, or with none beside the counts."""
    if not event["choices"]:
        return Part(counts=_counts(event))
    [choice] = event["choices"]
    tokens, scores = _scores(choice.get("logprobs"))
    return Part(
        text=text_of(choice) or "",
        # vLLM's name, and LMDeploy's.
        tokens=tokens or tuple(choice.get("token_ids") or choice.get("output_ids") or ()),
        scores=scores,
        finish=choice.get("finish_reason"),
        counts=_counts(event),
    )


def _read_generated(event: Event) -> Part:
    """Of LMDeploy's /generate, whose counts are there from the first event on."""
    meta = event["meta_info"]
    finish = (meta.get("finish_reason") or {}).get("type")
    return Part(
        text=event["text"] or "",
        tokens=tuple(event["output_ids"] or ()),
        finish=finish,
        counts=(meta["prompt_tokens"], meta["completion_tokens"]) if finish else None,
    )


def _read_whole(answer: Event) -> Part:
    """Of llama.cpp's own /completion."""
    return Part(
        text=answer["content"],
        tokens=tuple(answer["tokens"]),
        finish="length" if answer["stop_type"] == "limit" else "stop",
        counts=(answer["tokens_evaluated"], answer["tokens_predicted"]),
    )


def _counts(event: Event) -> tuple[int, int] | None:
    usage = event.get("usage")
    return (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None


def _scores(logprobs: Mapping[str, Any] | None) -> tuple[tuple[int, ...], tuple[TokenScores, ...]]:
    """Tokens and their scores, from the lists of a completion or from the entries of a chat."""
    if not logprobs:
        return (), ()
    if logprobs.get("content") is not None:
        rows = [
            (entry["token"], entry["logprob"], {other["token"]: other["logprob"] for other in entry["top_logprobs"]})
            for entry in logprobs["content"]
        ]
    else:
        rows = list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True))
    scores = tuple(
        TokenScores(
            chosen=chosen,
            likeliest=tuple(
                sorted(((_token(name), score) for name, score in (likeliest or {}).items()), key=lambda pair: -pair[1])
            ),
        )
        for _, chosen, likeliest in rows
    )
    return tuple(_token(name) for name, _, _ in rows), scores


def _token(name: str) -> int:
    """From `token_id:5`, as vLLM tells a token that is asked for by its id."""
    return int(name.removeprefix("token_id:"))
