"""How httpx2 reaches an engine's own server: a connection for each request, whose bytes are read as they come.

httpx2 brings a transport that passes each chunk through a pool of connections, anyio and h11: of the CPU time that a
token takes in the front, that is the larger part.
"""

import asyncio
from collections.abc import AsyncGenerator

import httptools
import httpx2

from selector.serve.mailbox import Mailbox


class ServerTransport(httpx2.AsyncBaseTransport):
    """HTTP/1.1 without TLS, for requests that say `Connection: close`.

    What comes is never held back: a slow reader is not the server's business, which has other answers to give.
    """

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2.AsyncBaseTransport.

        Raises:
            httpx2.TransportError: nobody listens, or the connection ended before an answer began.
        """
        body = await request.aread()
        limits_s = request.extensions.get("timeout", {})
        exchange = _Exchange(limits_s.get("read"))
        loop, url = asyncio.get_running_loop(), request.url
        try:
            async with asyncio.timeout(limits_s.get("connect")):
                connection, _ = await loop.create_connection(lambda: exchange, url.host, url.port or 80)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("no connection in time", request=request) from error
        except OSError as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        try:
            connection.write(_head(request) + body)
            status = await exchange.status()
        except BaseException:
            connection.close()
            raise
        return httpx2.Response(status, headers=exchange.headers, stream=_Body(exchange, connection))


def _head(request: httpx2.Request) -> bytes:
    fields = b"".join(b"%s: %s\r\n" % field for field in request.headers.raw)
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (request.method.encode(), request.url.raw_path, fields)


class _Exchange(asyncio.Protocol):
    """One answer, from its first byte to its end.

    Args:
        read_s: how long each wait for more may take; None: as long as it does.
    """

    def __init__(self, read_s: float | None) -> None:
        self._read_s = read_s
        self._parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self._come = Mailbox[int | bytes | httpx2.TransportError | None]()
        """The status, then parts of the body, then None where it was whole, else why not."""
        self._begun = self._over = self._ends_with_connection = False

    async def status(self) -> int:
        """The answer's status, once its head has come.

        Raises:
            httpx2.TransportError: it did not come.
        """
        come = await self._next()
        assert isinstance(come, int)
        return come

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The body, part by part as it comes; raises as `status` does."""
        while (come := await self._next()) is not None:
            assert isinstance(come, bytes)
            yield come

    async def _next(self) -> int | bytes | None:
        if self._come or self._read_s is None:
            come = await self._come.take()
        else:
            try:
                async with asyncio.timeout(self._read_s):
                    come = await self._come.take()
            except TimeoutError as error:
                raise httpx2.ReadTimeout(f"nothing came for {self._read_s:g} s") from error
        if isinstance(come, httpx2.TransportError):
            raise come
        return come

    def _end(self, how: httpx2.TransportError | None) -> None:
        if not self._over:
            self._over = True
            self._come.put(how)

    # of asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(httpx2.RemoteProtocolError(f"what came is no HTTP/1.1: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._end(httpx2.ReadError(str(exc) or type(exc).__name__))
        elif not self._begun:
            self._end(httpx2.RemoteProtocolError("Server disconnected without sending a response."))
        elif self._ends_with_connection:
            self._end(None)
        else:
            self._end(httpx2.RemoteProtocolError(
                "peer closed connection without sending complete message body (incomplete chunked read)"
            ))  # fmt: skip

    # of httptools.HttpResponseParser

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._begun = True
        self._ends_with_connection = not {b"content-length", b"transfer-encoding"} & {
            name.lower() for name, _ in self.headers
        }
        self._come.put(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        self._come.put(body)

    def on_message_complete(self) -> None:
        self._end(None)


class _Body(httpx2.AsyncByteStream):
    """The body of an answer; closing it before its end closes the connection, by which the server learns of it."""

    def __init__(self, exchange: _Exchange, connection: asyncio.Transport) -> None:
        self._exchange, self._connection = exchange, connection

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for part in self._exchange.body():
            yield part

    async def aclose(self) -> None:
        """Close the connection."""
        self._connection.close()
