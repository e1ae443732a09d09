"""Bodies of /v1/completions and /v1/chat/completions, checked: what cannot be done is refused, never ignored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from selector.serve.api.body.fields import Fields, refuse, text
from selector.serve.api.body.messages import read_messages
from selector.serve.upstream import Ask, Refused

MOST_PROMPTS: Final = 128
"""Of one request; each is an answer of its own in the engine."""
MOST_STOPS: Final = 4
"""As OpenAI's API has it."""
MOST_LIKELIEST: Final = 20
"""As OpenAI's chat API has it."""
MOST_SEED: Final = (1 << 63) - 1

_ONLY: Final[Mapping[str, Sequence[object]]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (True,),
    "audio": (),
    "best_of": (1,),
    "chat_template": (),
    "continue_final_message": (False,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "messages": ([],),  # beside a prompt: aiperf wants it in the bodies that it sends as they are
    "min_p": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (0, -1),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Fields of OpenAI's API and of its relatives that nothing here can do; these values of them ask for nothing."""

_WITHOUT_EFFECT: Final = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)
"""Fields that never change an answer: they name who asks, and what to keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request's body asks for."""

    model: str
    asks: tuple[Ask, ...]
    """One for each choice of the answer."""
    stream: bool = False
    usage_in_stream: bool = False
    token_ids: bool = False
    """Whether the answer tells the ids of its tokens."""
    likeliest: int | None = None
    """How many of the likeliest tokens are told beside the chosen one; None: no log-probability is told."""


def parse(raw: bytes) -> Mapping[str, Any]:
    """The object that a body holds.

    Raises:
        Refused: it is not UTF-8, not JSON, or not an object.
    """
    try:
        fields = json.loads(raw.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise Refused(f"the body is not UTF-8: {error.reason} at byte {error.start}", code="invalid_json") from None
    except RecursionError:
        raise Refused("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise Refused(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise Refused("the body needs to be a JSON object", code="invalid_json")
    return fields


def read_completion(body: Mapping[str, Any]) -> Body:
    """The body of /v1/completions.

    Raises:
        Refused: a field is unknown, or has a value that cannot be.
    """
    fields = Fields(body)
    prompts = _prompts(fields.take("prompt"))
    likeliest = fields.integer("logprobs", 0, MOST_LIKELIEST)
    return _body(fields, [Ask(prompt=prompt) for prompt in prompts], likeliest)


def read_chat(body: Mapping[str, Any]) -> Body:
    """The body of /v1/chat/completions.

    Raises:
        Refused: see read_completion.
    """
    fields = Fields(body)
    messages = read_messages(fields.take("messages"))
    top = fields.integer("top_logprobs", 0, MOST_LIKELIEST)
    shown = fields.truth("logprobs")
    if top and not shown:
        refuse("top_logprobs", "needs `logprobs`: true")
    template = fields.of_kind("chat_template_kwargs", dict, "an object")
    return _body(fields, [Ask(messages=messages, template=template)], (top or 0) if shown else None)


def _body(fields: Fields, asks: Sequence[Ask], likeliest: int | None) -> Body:
    """What both APIs have."""
    model = fields.take("model")
    if not isinstance(model, str) or not model:
        refuse("model", "needs to be the name of a model; GET /v1/models lists those that are served")
    max_tokens = _max_tokens(fields)
    ignore_end = fields.truth("ignore_eos")
    least = fields.integer("min_tokens", 0, None)
    if least and not (ignore_end and max_tokens is not None and least <= max_tokens):
        refuse("min_tokens", "needs `ignore_eos`: true and a `max_tokens` that is no less")
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    if top_p == 0:
        refuse("top_p", "needs to be more than 0")
    seed = fields.integer("seed", 0, MOST_SEED)
    stop = _stop(fields.take("stop"))
    stream, token_ids = fields.truth("stream"), fields.truth("return_token_ids")
    common = Ask(
        max_tokens=max_tokens,
        ignore_end=ignore_end,
        stop=stop,
        temperature=0.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=seed,
        logprobs=0 if likeliest is None else max(1, likeliest),
        whole_ids=token_ids and not stream,
    )
    usage_in_stream = _stream_options(fields.of_kind("stream_options", dict, "an object"), stream=stream)
    fields.drop(_WITHOUT_EFFECT)
    fields.end(_ONLY)
    return Body(
        model=model,
        asks=tuple(replace(common, prompt=ask.prompt, messages=ask.messages, template=ask.template) for ask in asks),
        stream=stream,
        usage_in_stream=usage_in_stream,
        token_ids=token_ids,
        likeliest=likeliest,
    )


def _prompts(prompt: object) -> list[str | tuple[int, ...]]:
    """A text or token ids are one prompt; a list of texts or of lists of token ids is several."""
    wanted = "needs to be a text, a list of token ids, or a list of such prompts"
    if isinstance(prompt, str):
        return [text("prompt", prompt)]
    if not isinstance(prompt, list) or not prompt:
        refuse("prompt", wanted)
    kinds = set(map(type, prompt))
    prompts: list[str | tuple[int, ...]]
    if kinds == {int}:
        return [tuple(prompt)]
    if kinds == {str}:
        prompts = [text("prompt", one) for one in prompt]
    elif kinds == {list} and all(set(map(type, one)) == {int} for one in prompt):
        prompts = [tuple(one) for one in prompt]
    else:
        refuse("prompt", wanted)
    if len(prompts) > MOST_PROMPTS:
        refuse("prompt", f"has {len(prompts)} prompts; a request may have {MOST_PROMPTS}")
    return prompts


def _max_tokens(fields: Fields) -> int | None:
    old, new = fields.integer("max_tokens", 1, None), fields.integer("max_completion_tokens", 1, None)
    if old is not None and new is not None and old != new:
        refuse("max_tokens", f"is {old} and `max_completion_tokens` is {new}: give one of them")
    return new if old is None else old


def _stop(stop: object) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
        refuse("stop", "needs to be a text or a list of texts, none of them empty")
    if len(texts) > MOST_STOPS:
        refuse("stop", f"has {len(texts)} texts; a request may have {MOST_STOPS}")
    return tuple(text("stop", one) for one in texts)


def _stream_options(plain: Mapping[str, Any] | None, *, stream: bool) -> bool:
    """Whether the last chunk tells the usage."""
    if plain is None:
        return False
    if not stream:
        refuse("stream_options", "needs `stream`: true")
    options = Fields(plain, within="stream_options")
    usage = options.truth("include_usage")
    options.end({"continuous_usage_stats": (False,), "include_obfuscation": (False,)})
    return usage


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
