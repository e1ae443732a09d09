"""Reads an HTTP/1.1 response and the server-sent events in it, as its bytes come."""

from collections.abc import Iterator

HEAD_MOST = 1 << 16
"""Bytes of a response's head; a longer one is none."""


class ResponseReader:
    """One response. Afterwards the connection is closed: who reads asked for `Connection: close`.

    Raises:
        ValueError: from `feed`: what came is no HTTP/1.1.
    """

    def __init__(self) -> None:
        self.status = 0
        """0 until the head has come."""
        self.content_type = ""
        self.whole = False
        """Whether all of the body has come, where its end can be known."""
        self._rest = b""
        self._left: int | None = None
        """Bytes of the body, or of the chunk, that are still to come; None: as many as come."""
        self._chunked = False
        self._in_chunk = False

    def feed(self, came: bytes) -> bytes:
        """The bytes of the body in what came."""
        self._rest += came
        if not self.status and not self._read_head():
            return b""
        if self._chunked:
            return b"".join(self._chunks())
        body, self._rest = self._rest, b""
        if self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
            self.whole = self._left == 0
        return body

    def _read_head(self) -> bool:
        """Read the head if it is whole; interim responses (1xx) are passed over."""
        while b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            version, _, status = first.partition(" ")
            if not version.startswith("HTTP/1.") or not status[:3].isdigit():
                raise ValueError(f"the server answered what is no HTTP/1.1: {first[:60]!r}")
            if status.startswith("1"):
                continue
            fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self.status = int(status[:3])
            self.content_type = fields.get("content-type", "").lower()
            self._chunked = "chunked" in fields.get("transfer-encoding", "").lower()
            if not self._chunked and "content-length" in fields:
                self._left = int(fields["content-length"])
                self.whole = self._left == 0
            return True
        if len(self._rest) > HEAD_MOST:
            raise ValueError(f"the server answered what is no HTTP/1.1: {self._rest[:60]!r}")
        return False

    def _chunks(self) -> Iterator[bytes]:
        """What came of the body's chunks (RFC 9112, 7.1)."""
        while not self.whole:
            if not self._in_chunk:
                line, end, rest = self._rest.partition(b"\r\n")
                if not end:
                    return
                self._rest = rest
                if line:  # an empty line ends the chunk before
                    self._left = int(line.partition(b";")[0], 16)
                    self._in_chunk = self._left > 0
                    self.whole = self._left == 0
                continue
            assert self._left is not None
            part, self._rest = self._rest[: self._left], self._rest[self._left :]
            if not part:
                return
            self._left -= len(part)
            self._in_chunk = self._left > 0
            yield part


class EventReader:
    """The events of a stream, of which only their data counts (WHATWG HTML, 9.2.6)."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []

    def feed(self, body: bytes) -> Iterator[str]:
        """The data of each event that is whole now. Comments and fields of other names are passed over."""
        *lines, self._rest = (self._rest + body).split(b"\n")
        for line in lines:
            text = line.rstrip(b"\r")
            if text.startswith(b"data:"):
                self._lines.append(text[5:].removeprefix(b" ").decode("utf-8", errors="replace"))
            elif not text:
                yield from self.end()

    def end(self) -> Iterator[str]:
        """The event that has no empty line after it; a stream's last one may lack that."""
        if self._lines:
            data, self._lines = "\n".join(self._lines), []
            yield data
