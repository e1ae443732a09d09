"""Where a server listens: an address that it takes at once, and answers at while the model is still made ready."""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import uvicorn

from calibration.errors import NotServed, UsageError
from selector.serve.api.errors import error_response
from selector.serve.upstream import Unavailable

BACKLOG = 2048
"""Connections that wait to be accepted; uvicorn's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, and for whom.

    Raises:
        UsageError: others could reach it, and it has no key; or a key is empty, or has blanks around it.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    """0: a free one."""
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(not key or key != key.strip() for key in self.keys):
            # A header's value has no blanks around it, and an empty key would let in who sends an empty one.
            raise UsageError(
                "needs a key without blanks around it; found an empty one, or one with blanks", "--api-key KEY"
            )
        if not self.keys and not _is_loopback(self.host):
            raise UsageError(
                f"--host {self.host} lets other machines ask; found no key that they must know",
                "--api-key KEY, or AUTOBACKEND_API_KEY; or leave --host out",
            )


def listen(address: Address) -> socket.socket:
    """A socket that listens.

    Raises:
        NotServed: the address is taken, or is none of this machine's.
    """
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise NotServed(
            f"cannot listen at {address.host}:{address.port}: {(error.strerror or str(error)).lower()}",
            "--port 0 takes a free port",
        ) from error
    return listening


def url_of(listening: socket.socket) -> str:
    """`http://127.0.0.1:8000`; of a socket that listens everywhere, the way from this machine."""
    host, port, *_ = listening.getsockname()
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a look-up, nothing is bound
    host = everywhere.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's, which leaves the signals to us."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=FLUSH_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


FLUSH_S = 5
"""How long an answer that is complete may still be on its way to its client when the server ends."""


@contextlib.contextmanager
def not_ready(listening: socket.socket, why: str) -> Iterator[None]:
    """Meanwhile whoever asks is told, on another thread, that the model is not there yet; /health is 503, too."""
    server = Server(_refusing(Unavailable(why)))
    own = listening.dup()  # uvicorn closes what it is given
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve([own])), name="autobackend-not-ready", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def _refusing(error: Unavailable) -> Any:
    response = error_response(error)

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await response(scope, receive, send)

    return app


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
