"""Delivery: an answer on its way from the engine to a client, who may be slow, or leave.

The engine never waits for a client: what has come and is not read yet waits here, and that is no more than the answer
itself, whose length is bounded by the context. A client that leaves ends its requests at once; one that reads nothing
for a minute counts as gone.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, cast

from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from calibration.engine.streams import Finish
from selector.serve.api.answers import Answer, event
from selector.serve.api.errors import error_object
from selector.serve.mailbox import Mailbox
from selector.serve.observers.observer import Observer
from selector.serve.upstream import Ask, Failed, Piece, Refused, Unavailable, Upstream

KEEP_ALIVE_S: Final = 15.0
"""A stream without news says so, so that no proxy takes it for dead: theirs wait 60 s (nginx's proxy_read_timeout)."""
READER_S: Final = 60.0
"""A client that takes nothing for so long is gone."""

JOINED_BYTES: Final = 64 << 10
"""Events are sent together up to so much; above it uvicorn lets the next one wait for the reader."""

LOOKS: Final = 4
"""How often the shorter of the two times is looked at until it is over."""

_LOG: Final = logging.getLogger("autobackend")
_HEAD: Final[Message] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx passes each event on as it comes
    ],
}


class Delivery:
    """Asks the upstream and sends what it gives, as a response of Starlette's kind.

    Raises (before the first byte was sent):
        Refused: the upstream cannot answer that.
        Unavailable: there is no engine now.
        Failed: the engine could not answer.
    """

    def __init__(
        self,
        upstream: Upstream,
        asks: tuple[Ask, ...],
        answer: Answer,
        observer: Observer,
        *,
        stream: bool,
        keep_alive_s: float = KEEP_ALIVE_S,
        reader_s: float = READER_S,
    ) -> None:
        self._upstream, self._asks, self._answer, self._observer = upstream, asks, answer, observer
        self._is_stream = stream
        self._keep_alive_s, self._reader_s = keep_alive_s, reader_s
        self._come = Mailbox[tuple[int, Piece] | Exception | None]()
        """What is to be sent; None: nothing came for a while."""
        self._is_writing, self._since_s = False, time.monotonic()
        """Whether the client has yet to take what was sent, and since when it is so, or is not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Deliver, until the answer has ended or the client is gone."""
        asking = [asyncio.create_task(self._ask(index, ask)) for index, ask in enumerate(self._asks)]
        sending = asyncio.create_task(self._stream(send) if self._is_stream else self._send_whole(scope, receive, send))
        leaving = asyncio.create_task(_left(receive))
        watching = [asyncio.create_task(self._watch())] if self._is_stream else []
        try:
            # Without its end the server closes the connection: the client left, or takes nothing.
            await asyncio.wait({sending, leaving, *watching}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            tasks = (*asking, sending, leaving, *watching)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, index: int, ask: Ask) -> None:
        """Take one choice's pieces as they come."""
        observation = self._observer.arrived(ask)
        finish: Finish | None = Finish.CANCELLED
        try:
            pieces = cast("AsyncGenerator[Piece, None]", self._upstream.answer(ask))
            async with aclosing(pieces):
                async for piece in pieces:
                    if piece.finish in (Finish.ERROR, Finish.CANCELLED):
                        raise Failed(f"the engine ended the answer: {piece.finish}")
                    observation.gave(piece)
                    self._come.put((index, piece))
                    if piece.finish is not None:
                        finish = piece.finish
                        return
            raise Failed("the answer has no end")
        except Refused as refusal:
            finish = None
            self._come.put(refusal)
        except Exception as error:  # noqa: BLE001 - it is told to the client, and logged, by whoever sends
            finish = Finish.ERROR
            self._come.put(error)
        finally:
            observation.ended(finish)

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        while not self._answer.ended:
            match await self._come.take():
                case (index, piece):
                    self._answer.add(index, piece)
                case Exception() as error:
                    raise error
        await JSONResponse(self._answer.whole())(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        """The head is sent with the first piece, so that what fails before has a status of its own."""
        come = await self._come.take()
        if isinstance(come, Exception):
            raise come
        await send(_HEAD)
        while True:
            content, is_last = self._content(come)
            # What has come meanwhile goes along: writes to a client that has left, one by one, make asyncio complain.
            while not is_last and self._come and len(content) < JOINED_BYTES:
                more, is_last = self._content(self._come.take_now())
                content += more
            await self._write(send, content, is_last=is_last)
            if is_last:
                return
            if self._come:
                await asyncio.sleep(0)  # so that the server sees whether the client has left
            come = await self._come.take()

    def _content(self, come: tuple[int, Piece] | Exception | None) -> tuple[bytes, bool]:
        """What is sent for what came, and whether nothing follows."""
        match come:
            case None:
                return b": the engine is at work\n\n", False
            case Exception() as error:
                _log(error)
                return event(error_object(error)), True
            case (index, piece):
                self._answer.add(index, piece)
                chunk = self._answer.chunk(index, piece)
                return (chunk + self._answer.last(), True) if self._answer.ended else (chunk, False)

    async def _write(self, send: Send, content: bytes, *, is_last: bool = False) -> None:
        self._is_writing, self._since_s = True, time.monotonic()
        await send({"type": "http.response.body", "body": content, "more_body": not is_last})
        self._is_writing, self._since_s = False, time.monotonic()

    async def _watch(self) -> None:
        """Look now and then whether nothing comes, or goes; over when the client takes nothing.

        Timers for each token, one for what comes and one for what goes, cost a third more CPU time than all the rest.
        """
        while True:
            await asyncio.sleep(min(self._keep_alive_s, self._reader_s) / LOOKS)
            unchanged_s = time.monotonic() - self._since_s
            if self._is_writing and unchanged_s >= self._reader_s:
                _LOG.warning("a client took nothing for %.0f s: its answer is given up", self._reader_s)
                return
            if not self._is_writing and unchanged_s >= self._keep_alive_s and not self._come:
                self._come.put(None)


async def _left(receive: Receive) -> None:
    """Until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _log(error: Exception) -> None:
    """An error that nobody foresaw, and that no status tells any more."""
    if not isinstance(error, Refused | Unavailable | Failed):
        _LOG.error("an answer failed", exc_info=error)
