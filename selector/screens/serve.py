"""The screen of `serve`: what is served and why, how requests are batched, where it listens, and how to ask it."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from calibration.load.use import title_of
from selector.answer import Selection, Source
from selector.demand.traffic import Observed
from selector.planning.room import Room
from selector.screens.select import where_from
from selector.screens.text import age, columns, figure, parameters, plural, seconds, size

BATCHING = {
    "continuous": "a new one joins those that run",
    "static": "they run as a batch, and who comes later waits for its end",
    "turns": "they take turns, a step each",
}
"""What becomes of several requests, by Streams.batching."""


def chosen(selection: Selection, room: Room, *, threads: int, across: int | None = None) -> list[str]:
    """What will be served, where the choice comes from, and for how much there is room."""
    spec, device = selection.spec, selection.host.device
    quant = "not quantized" if spec.quant.method == "none" else spec.quant.label
    weights = " (random weights)" if spec.name.startswith("shape:") else ""
    shape = f"{plural(spec.layers, 'layer')}, {parameters(spec.parameters)} parameters, {spec.dtype}"
    of_free = f" of the {size(room.free_bytes)} that are free" if room.free_bytes else ""
    on = f", {plural(threads, 'thread')}" if device.kind == "cpu" else ""
    rows = [
        ("model", f"{spec.architecture}, {shape}, {quant}{weights}"),
        ("serves", f"{selection.candidate.label}, {_why(selection)}, for {title_of(selection.use)}"),
        ("on", f"{device.name}{on}"),
        ("room", f"{plural(room.slots, 'request')}, each up to {room.context_tokens:,} tokens with its answer"),
        ("memory", f"about {size(room.needed_bytes)}{of_free}"),
    ]
    return columns(rows, across=across)


def _why(selection: Selection) -> str:
    """`as you asked`, `measured here 3 days ago (12 launches, 4 candidates)`."""
    origin = where_from(selection)
    if selection.source is not Source.FORCED:
        return origin
    return origin.replace("forced ", "as you asked, measured ") if selection.measured_at else "as you asked"


def ready(answer: Mapping[str, Any], title: str, *, takes_text: bool, takes_chats: bool, keyed: bool) -> list[str]:
    """How requests are batched, where it listens, and how to ask it.

    Args:
        answer: what --json prints.
        title: the engine's name.
        takes_text: else it is asked by token ids.
        keyed: it wants a key.
    """
    url, model = answer["url"], answer["names"][0]
    rows = [
        ("requests", batching(answer["batching"], title, answer["slots"])),
        ("ready", f"loaded in {seconds(answer['load_s'])}: {url}/v1, model {model}; Ctrl-C ends it"),
        ("try it", example(url, model, takes_text=takes_text, takes_chats=takes_chats, keyed=keyed)),
    ]
    return columns(rows)


def batching(word: str, title: str, slots: int) -> str:
    """How requests wait for each other.

    >>> batching("none", "CTranslate2", 4)
    'CTranslate2 answers one after another: requests wait for each other'
    >>> batching("continuous", "OpenVINO GenAI", 4)
    'OpenVINO GenAI answers 4 at once: a new one joins those that run; more wait'
    """
    if word == "none" or slots == 1:
        return f"{title} answers one after another: requests wait for each other"
    return f"{title} answers {slots} at once: {BATCHING.get(word, word)}; more wait"


def example(url: str, model: str, *, takes_text: bool, takes_chats: bool, keyed: bool) -> str:
    """A command that asks the server."""
    body: dict[str, object] = {"model": model, "max_tokens": 64}
    if takes_chats:
        body["messages"] = [{"role": "user", "content": "Hello"}]
    else:
        body |= {"prompt": "Once upon a time"} if takes_text else {"prompt": [1, 2, 3], "return_token_ids": True}
    path = "chat/completions" if takes_chats else "completions"
    key = ' -H "Authorization: Bearer $AUTOBACKEND_API_KEY"' if keyed else ""
    return f"curl {url}/v1/{path} -H 'Content-Type: application/json'{key} -d {shlex.quote(json.dumps(body))}"


def observed(selection: Selection, came: Observed, *, now: float | None = None) -> list[str]:
    """What came, and what another choice would have gained, where that is known.

    Args:
        selection: for the workload that stands for what came.
    """
    at_once = f"{figure(came.at_once)} at once" if came.at_once > 1 else "one at a time"
    lengths = f"{came.prompt_median:,} prompt tokens and {came.output_median:,} new ones (medians)"
    served = came.candidate
    requests = plural(came.requests, "request")
    share = "all" if came.candidates[served] == came.requests else "most"
    lines = [f"{requests}, the first {age(came.since, now)}: {lengths}, {at_once}; {served} answered {share} of them"]
    best, times = selection.candidate.label, _times(selection)
    if best == served:
        lines.append(f"{best} is the choice for them, too")
    elif best in times and served in times and times[best] < times[served]:
        verb = "is predicted to answer" if selection.prediction else "answers"
        lines.append(f"{best} {verb} such requests {figure(times[served] / times[best])} times faster than {served}")
    return lines


def _times(selection: Selection) -> dict[str, float]:
    """Of each candidate: how long such a request takes; from what the answer stands on."""
    if selection.served:
        return {ranked.candidate.label: ranked.figures.e2e_s for ranked in selection.served}
    if selection.prediction:
        return {row.candidate: row.e2e_s for row in selection.prediction.predicted}
    return {ranked.candidate.label: ranked.e2e_s for ranked in selection.ranking}
