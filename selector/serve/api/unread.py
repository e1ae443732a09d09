"""Answers that come before the request was read: a key is wrong, or a body is too large.

A server that answers, closes the connection and then gets more of the body resets the connection, and the client may
never see the answer. So the rest is read first, and thrown away; not for ever.
"""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IDLE_S: Final = 0.5
"""A client that sends nothing for so long waits for the answer."""
_MOST_S: Final = 5.0
"""In all; 32 MiB come within that at 55 Mbit/s. Who still sends then may miss the answer."""


class ReadToEnd:
    """Reads a request to its end before the answer to it begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_read = False

        async def receive_on() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def send_on(message: Message) -> None:
            nonlocal is_read
            if not is_read:
                await _read_to_end(receive)
                is_read = True
            await send(message)

        await self._app(scope, receive_on, send_on)


async def _read_to_end(receive: Receive) -> None:
    try:
        async with asyncio.timeout(_MOST_S):
            more = True
            while more:
                async with asyncio.timeout(_IDLE_S):
                    more = (await receive()).get("more_body", False)
    except TimeoutError:
        pass
