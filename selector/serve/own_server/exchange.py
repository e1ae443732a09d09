"""One request to an engine's own server: the pieces of its answer, or why there is none."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

import httpx2

from calibration.engine.streams import Finish
from selector.serve.own_server.dialect import Call, Event, Part
from selector.serve.upstream import Failed, Piece, Refused, Unavailable

_ENDS = {"stop": Finish.STOP, "length": Finish.LENGTH}
_CLIENTS_FAULT = frozenset({400, 413, 422})
"""Statuses about what the client wants; others of 4xx are about what we have sent: a path, a key, the model's name."""


async def exchange(client: httpx2.AsyncClient, request: Call, name: str) -> AsyncGenerator[Piece, None]:
    """Ask, and give the answer as it comes; closing this before its end closes the connection, and so cancels it.

    Args:
        name: of the engine, for messages.

    Raises:
        Refused: before the first piece: the server cannot answer that.
        Failed: it could not answer this request.
        Unavailable: it is gone, or takes no requests now.
    """
    finish: str | None = None
    counts: tuple[int, int] | None = None
    try:
        answer = _whole if request.whole else _events
        async with aclosing(answer(client, request, name)) as parts:
            async for part in parts:
                finish, counts = part.finish or finish, part.counts or counts
                if part.text or part.tokens:
                    yield Piece(text=part.text, tokens=part.tokens, scores=part.scores)
    except httpx2.SSEError as error:
        raise Failed(f"{name} sent what is no stream of events: {error}") from error
    except httpx2.TransportError as error:
        raise Unavailable(f"{name} ended while it answered: {str(error) or type(error).__name__}") from error
    if finish not in _ENDS or counts is None:
        raise Failed(f"{name} ended an answer " + (f"with {finish!r}" if finish else "without an end of it"))
    prompt_tokens, completion_tokens = counts
    yield Piece(finish=_ENDS[finish], prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


async def _events(client: httpx2.AsyncClient, request: Call, name: str) -> AsyncGenerator[Part, None]:
    """What each event of a stream says."""
    begun = False
    async with client.sse(request.path, method="POST", json=request.body) as events:
        if events.response.status_code != 200:
            raise await _refusal(events.response, name)
        stream = cast("AsyncGenerator[httpx2.ServerSentEvent, None]", aiter(events))
        async with aclosing(stream):
            async for event in stream:
                if event.data == "[DONE]":
                    return
                part = _part(event.data, request, name, begun=begun)
                begun = begun or bool(part.text or part.tokens)
                yield part


async def _whole(client: httpx2.AsyncClient, request: Call, name: str) -> AsyncGenerator[Part, None]:
    """What an answer says that comes in one piece."""
    response = await client.post(request.path, json=request.body)
    if response.status_code != 200:
        raise await _refusal(response, name)
    yield _part(response.text, request, name, begun=False)


async def count_tokens(client: httpx2.AsyncClient, path: str, body: Mapping[str, object], name: str) -> int:
    """How many tokens a server makes of a text; raises as `exchange` does."""
    try:
        response = await client.post(path, json=body)
    except httpx2.TransportError as error:
        raise Unavailable(f"{name} ended while it counted: {str(error) or type(error).__name__}") from error
    if response.status_code != 200:
        raise await _refusal(response, name)
    try:
        return int(response.json()["count"])
    except (KeyError, TypeError, ValueError) as cause:
        raise Failed(f"{name} sent what is no count of tokens: {response.text[:80]!r}") from cause


def _part(text: str, request: Call, name: str, *, begun: bool) -> Part:
    """What an event says.

    Raises:
        Refused: some servers have begun to answer when they refuse.
        Failed: it tells an error, or is no event of an answer.
    """
    try:
        event: Event = json.loads(text)
        error = event.get("error")
        if error is None:
            return request.read(event)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as cause:
        raise Failed(f"{name} sent what is no part of an answer: {text[:80]!r}") from cause
    fault = _fault(event, 500)
    if fault.status in _CLIENTS_FAULT and not begun:
        raise _refused(fault)
    raise Failed(f"{name} failed: {fault.message}")


async def _refusal(response: httpx2.Response, name: str) -> Exception:
    """What an answer of another status than 200 means for the client."""
    body, status = await response.aread(), response.status_code
    try:
        fault = _fault(json.loads(body), status)
    except (AttributeError, ValueError):
        fault = _Fault(status=status, message=body[:200].decode(errors="replace"))
    if status in _CLIENTS_FAULT:
        return _refused(replace(fault, status=status))
    if status in {429, 503}:
        return Unavailable(f"{name} takes no requests now: {fault.message}")
    return Failed(f"{name} answered with status {status}: {fault.message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """What an error object says."""

    status: int
    message: str
    code: str | None = None
    """Of OpenAI's, where it has one."""


def _fault(event: Event, status: int) -> _Fault:
    """From an error object, which LMDeploy sends bare."""
    error = event.get("error", event)
    if not isinstance(error, dict):
        return _Fault(status=status, message=str(error))
    code, message = error.get("code"), str(error.get("message") or error)
    # llama-server names it by a type, vLLM and LMDeploy in their sentences.
    is_too_long = error.get("type") == "exceed_context_size_error" or "context length" in message
    return _Fault(
        status=code if isinstance(code, int) else status,
        message=message,
        code="context_length_exceeded" if is_too_long else None,
    )


def _refused(fault: _Fault) -> Refused:
    # 422 is how these servers say that a field has another type than they want.
    return Refused(fault.message, status=400 if fault.status == 422 else fault.status, code=fault.code)
