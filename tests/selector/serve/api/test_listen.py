"""Where it listens: for whom, that a taken port is said at once, and what is answered before the model is there."""

import http.client
import json
import socket
from contextlib import closing

import pytest

from calibration.errors import NotServed, UsageError
from selector.serve.api.listen import Address, listen, not_ready, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_this_machine_alone_no_key_is_needed(host: str) -> None:
    assert Address(host=host).keys == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_others_need_a_key(host: str) -> None:
    with pytest.raises(UsageError, match=rf"^--host {host} lets other machines ask; found no key"):
        Address(host=host)
    assert Address(host=host, keys=("secret",)).host == host


@pytest.mark.parametrize("key", ["", " ", " secret", "secret\n"])
def test_a_key_that_is_empty_or_cannot_be_sent_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(UsageError) as refused:
        Address(keys=("good", key))
    assert refused.value.message == "needs a key without blanks around it; found an empty one, or one with blanks"


def test_a_taken_port_is_said() -> None:
    with closing(listen(Address(port=0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotServed) as caught:
            listen(Address(port=port))
    assert str(caught.value) == (
        f"cannot listen at 127.0.0.1:{port}: address already in use\n--port 0 takes a free port"
    )


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(NotServed, match=r"^cannot listen at 203.0.113.9:8000: cannot assign requested address\n"):
        listen(Address(host="203.0.113.9", keys=("secret",)))


def test_the_url_of_a_socket() -> None:
    with closing(listen(Address(port=0))) as here, closing(socket.socket(socket.AF_INET6)) as six:
        assert url_of(here) == f"http://127.0.0.1:{here.getsockname()[1]}"
        six.bind(("::", 0))
        assert url_of(six) == f"http://[::1]:{six.getsockname()[1]}"
    with closing(listen(Address(host="0.0.0.0", port=0, keys=("secret",)))) as everywhere:
        assert url_of(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}"


@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("POST", "/v1/chat/completions"), ("GET", "/")])
def test_before_the_model_is_there_everything_is_503(method: str, path: str) -> None:
    with closing(listen(Address(port=0))) as listening:
        port = listening.getsockname()[1]
        for _ in range(2):  # the socket goes on listening
            with (
                not_ready(listening, "tiny is being converted"),
                closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection,
            ):
                connection.request(method, path, b"{}" if method == "POST" else None)
                answer = connection.getresponse()
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                assert json.loads(answer.read())["error"]["message"] == "tiny is being converted"
