"""What the client is told of a load, the bodies that it sends, and what it tells in the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calibration.load.load import Load
from calibration.load.sample import Asked, End, RequestTargets
from calibration.load.trace import Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """What the client is told."""

    url: str
    key: str = ""
    model: str
    path: str = "/v1/completions"
    vocab_size: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of each request's body, beside those that a load sets; among them what forces the length of an answer."""
    load: Load
    arrivals: tuple[Arrival, ...] = ()
    """Of the trace, where the load is one."""
    seed: str
    """Of lengths and arrivals."""
    prompt_seed: str
    """Of the prompts: another one for each run against the same server."""
    requests: int
    """How many are to count at most."""
    targets: RequestTargets | None = None
    slots: int = 0
    budget_s: float
    """Warm-up included; what is sent by then is waited for, and the load kept up meanwhile."""
    patience_s: float
    """How long it is waited for."""
    cpus: tuple[int, ...] = ()
    """Cores that the client is bound to; empty: it is not bound."""
    whole: bool = False
    """Send exactly `requests`, and let all of them count: as other load generators do, to be compared with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What the client tells at the end."""

    asked: tuple[Asked, ...]
    begin_s: float
    end_s: float
    end: End
    saturated: str = ""
    text_prompts: bool = False


def body(spec: LoadSpec, prompt: str | list[int], output_tokens: int) -> dict[str, Any]:
    """A request's body: a stream, greedy, of a forced length, with its usage at the end."""
    return {
        "model": spec.model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **spec.fields,
    }
