"""OwnServer: the server that an engine brings, as a program to be started, watched and asked over HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlace:
    """Where an engine's own server is to listen, and how much it is to hold."""

    port: int
    host: str = "127.0.0.1"
    key: str = ""
    """It must answer nobody who does not know it, where it can be told a key; empty: none."""
    served_name: str = "model"
    """The name under which it is asked for the model."""
    slots: int = 8
    """Requests at once."""
    context_tokens: int = 2048
    """Longest sequence, prompt and new tokens, of each."""
    threads: int = 1
    cpus: tuple[int, ...] = ()
    """Cores that it is bound to; empty: it is not bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnServer:
    """A program that serves a model by HTTP, as OpenAI's API has it: how it is started, and how it is asked."""

    argv: tuple[str, ...]
    """After the backend's interpreter: `("-m", "vllm.entrypoints.openai.api_server", ...)`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Additions to the environment."""
    ready_path: str = "/health"
    """Answers 200 once the model is loaded."""
    takes_token_ids: bool = True
    """Whether /v1/completions takes a prompt as token ids; if not, POST /generate takes them as `input_ids`, which is
    LMDeploy's way."""
    count_path: str = ""
    """Where it tells the `count` of a text's tokens, if its /v1/completions does not take `max_tokens`: null as a wish
    for as many as the context holds; empty: it does."""
    whole_path: str = ""
    """Where llama.cpp's server answers in one piece, with the ids of all tokens: its streams, and its /v1/completions,
    leave some out. Empty: they do not."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """Fields that every request to it carries, such as `cache_prompt`: false."""
    greedy: Mapping[str, object] = field(default_factory=lambda: {"temperature": 0})
    """Fields that make it choose the likeliest token at each step."""
    sampled: Mapping[str, object] = field(default_factory=dict)
    """Fields that leave nothing but `temperature` and `top_p` to change the distribution that it draws from."""
    scored: Mapping[str, object] = field(default_factory=dict)
    """Fields that a request for log-probabilities carries, so that tokens are told by their ids."""
    forced_length: Mapping[str, object] = field(default_factory=lambda: {"ignore_eos": True})
    """Fields of a request that must not end before `max_tokens`."""
    parameters: frozenset[str] = frozenset({"temperature", "top_p", "seed", "stop", "logprobs"})
    """Of the request's fields those that it heeds; one that it does not is refused, never ignored."""
