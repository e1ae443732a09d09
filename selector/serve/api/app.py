"""The API: its routes, who may ask, and how what goes wrong is told. It starts nothing: see serve/run.py."""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from selector.serve.api.answers import Answer, ChatAnswer, CompletionAnswer, number_token
from selector.serve.api.body.ask import Body, parse, read_chat, read_completion
from selector.serve.api.delivery import KEEP_ALIVE_S, READER_S, Delivery
from selector.serve.api.errors import error_response
from selector.serve.api.unread import ReadToEnd
from selector.serve.language.vocabulary import Token
from selector.serve.observers.observer import Observer, Unobserved
from selector.serve.upstream import Failed, Refused, Unavailable, Upstream

OPEN: Final = frozenset({"/health", "/metrics"})
"""For whoever watches the server, who has no key; they tell no content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the API is served."""

    names: tuple[str, ...]
    """Under which the model is asked for, the first one first."""
    keys: tuple[str, ...] = field(default=(), repr=False)
    """Each opens the API; empty: it is open."""
    body_bytes: int = 32 << 20
    """Longest body of a request."""
    keep_alive_s: float = KEEP_ALIVE_S
    """After so long without news a stream says that it lives."""
    reader_s: float = READER_S
    """A client that takes nothing for so long is gone."""


def app(
    upstream: Upstream,
    settings: Settings,
    *,
    metrics: Callable[[], tuple[bytes, str]] | None = None,
    observer: Observer | None = None,
    name_token: Callable[[int], Token] = number_token,
    why_not: Callable[[], Unavailable] = lambda: Unavailable("the model is not loaded now"),
) -> Starlette:
    """The application.

    Args:
        metrics: what /metrics answers, for Prometheus, and its content type; None: there is no such route.
        name_token: what a token is called in log-probabilities, such as `Text.vocabulary.token`.
        why_not: what /health answers while the upstream is not ready.
    """
    front = _Front(upstream, settings, metrics, observer or Unobserved(), name_token, why_not)
    routes = [
        Route("/v1/completions", front.complete, methods=["POST"]),
        Route("/v1/chat/completions", front.chat, methods=["POST"]),
        Route("/v1/models", front.list_models),
        Route("/v1/models/{name:path}", front.tell_model),
        Route("/health", front.health),
    ]
    if metrics:
        routes.append(Route("/metrics", front.metrics))
    return Starlette(
        routes=routes,
        middleware=[Middleware(ReadToEnd), Middleware(_Keys, keys=settings.keys, observer=front.observer)],
        exception_handlers={
            Refused: front.tell,
            Unavailable: front.tell,
            Failed: front.tell,
            HTTPException: front.tell_route,
            ClientDisconnect: front.tell_nobody,
            Exception: front.tell,
        },
    )


class _Front:
    """What the routes do."""

    def __init__(
        self,
        upstream: Upstream,
        settings: Settings,
        metrics: Callable[[], tuple[bytes, str]] | None,
        observer: Observer,
        name_token: Callable[[int], Token],
        why_not: Callable[[], Unavailable],
    ) -> None:
        self.observer = observer
        self._upstream, self._settings, self._metrics, self._name_token = upstream, settings, metrics, name_token
        self._why_not = why_not
        self._paths = ["/v1/chat/completions", "/v1/completions", "/v1/models", "/health"]
        self._paths += ["/metrics"] if metrics else []
        self._created = int(time.time())

    async def complete(self, request: Request) -> Delivery:
        body = read_completion(parse(await self._body(request)))
        return self._deliver(body, CompletionAnswer(body, self._name_token))

    async def chat(self, request: Request) -> Delivery:
        body = read_chat(parse(await self._body(request)))
        return self._deliver(body, ChatAnswer(body, self._name_token))

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self._settings.names]})

    async def tell_model(self, request: Request) -> Response:
        self._know(name := request.path_params["name"])
        return JSONResponse(self._model(name))

    async def health(self, request: Request) -> Response:
        """200 as soon as requests are answered; what starts a server waits for it."""
        if not self._upstream.ready:
            return error_response(self._why_not())
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        assert self._metrics
        content, kind = self._metrics()
        return Response(content, headers={"content-type": kind})

    async def tell(self, request: Request, error: Exception) -> Response:
        """An error within a route."""
        response = error_response(error)
        self.observer.refused(response.status_code)
        return response

    async def tell_route(self, request: Request, error: Exception) -> Response:
        """No such route, or not with this method."""
        assert isinstance(error, HTTPException)
        path, method = request.url.path, request.method
        message = {
            404: f"there is no {path}; there are {', '.join(self._paths)}",
            405: f"{path} has no {method}; it has {(error.headers or {}).get('Allow')}",
        }.get(error.status_code, error.detail)
        response = await self.tell(request, Refused(message, status=error.status_code, code="unknown_url"))
        response.headers.update(error.headers or {})
        return response

    async def tell_nobody(self, request: Request, error: Exception) -> Response:
        """The client left before its request was read; nobody gets this."""
        return Response(status_code=400)

    async def _body(self, request: Request) -> bytes:
        """The whole body; what comes beyond the limit is never kept."""
        most = self._settings.body_bytes
        too_large = Refused(f"the body is larger than {most} bytes", status=413, code="body_too_large")
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise too_large
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large
            parts.append(part)
        return b"".join(parts)

    def _deliver(self, body: Body, answer: Answer) -> Delivery:
        self._know(body.model)
        settings = self._settings
        return Delivery(
            self._upstream,
            body.asks,
            answer,
            self.observer,
            stream=body.stream,
            keep_alive_s=settings.keep_alive_s,
            reader_s=settings.reader_s,
        )

    def _know(self, name: str) -> None:
        """Refuse a model that is not served."""
        if name not in self._settings.names:
            raise Refused(
                f"there is no model {name!r} here; served are: {', '.join(self._settings.names)}"[:1000],
                status=404,
                parameter="model",
                code="model_not_found",
            )

    def _model(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "autobackend",
            "root": self._settings.names[0],
            "max_model_len": self._upstream.context_tokens,
        }


class _Keys:
    """Lets in who has a key."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...], observer: Observer) -> None:
        self._app, self._keys, self._observer = app, [key.encode() for key in keys], observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or not self._keys or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        refusal = Refused(
            "this server wants a key: the header `Authorization: Bearer KEY`", status=401, code="invalid_api_key"
        )
        self._observer.refused(refusal.status)
        response = error_response(refusal)
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(values) != 1:
            return False
        scheme, _, given = values[0].partition(b" ")
        # Each is compared, and in constant time: the time that it takes tells nothing about the keys.
        same = [hmac.compare_digest(given.strip(), key) for key in self._keys]
        return scheme.lower() == b"bearer" and any(same)
