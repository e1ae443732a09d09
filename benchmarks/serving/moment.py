"""Serves a model for a moment and asks it one question.

`python -m benchmarks.serving.moment MODEL [--seconds 40] [WORD ...]`; further words are those of `autobackend serve`.

`make demo` ends with it, on a machine that may have no curl. However it ends, the server is gone.
"""

import argparse
import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Final

from calibration.errors import AutobackendError, NotServed, UsageError

NEW_TOKENS: Final = 16
QUESTION: Final = "Once upon a time"
HEAD: Final = 60
"""Characters of the answer that are shown."""
END_S: Final = 10.0
"""How long a server that is told to stop may take before it is killed: nothing runs on it any more."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.moment", description=__doc__)
    parser.add_argument("model", help="what `autobackend serve` takes")
    parser.add_argument("--seconds", type=float, default=40.0, help="for all of it, but for its end")
    arguments, words = parser.parse_known_args(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        ask_once(arguments.model, words, seconds=arguments.seconds)
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def ask_once(model: str, words: Sequence[str], *, seconds: float) -> None:
    """Serve, ask, print the answer, stop.

    Raises:
        NotServed: no answer came within that time, or the server did not end as it was told.
    """
    deadline = time.monotonic() + seconds
    shown = ["autobackend", "serve", model, "--port", "0", *words]
    print(f"$ {shlex.join(shown)}", flush=True)
    with _running([sys.executable, "-m", *shown]) as process:
        url = _url(process, deadline)
        print(url)
        fields = {"model": _name(url, deadline), **question(model)}
        print(f"$ curl {url}/v1/completions -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(fields))}")
        began = time.monotonic()
        answer = _answer(url, fields, deadline)
        print(head(answer, time.monotonic() - began), flush=True)
    if process.returncode:
        raise NotServed(f"the server ended with exit code {process.returncode} when it was told to stop")
    print("and it ended when it was told to")


def question(model: str) -> dict[str, Any]:
    """What is asked; the random weights of a shape may end an answer at once, where nobody forbids it."""
    asked: dict[str, Any] = {"prompt": QUESTION, "max_tokens": NEW_TOKENS, "temperature": 0}
    return asked | {"ignore_eos": True} if model.startswith("shape:") else asked


def head(answer: Mapping[str, Any], seconds: float) -> str:
    r"""The beginning of an answer's text, and how long all of it took.

    >>> answer = {"choices": [{"text": " there was\n"}], "usage": {"completion_tokens": 3}}
    >>> head(answer, 0.5)
    '" there was\\n"  (3 tokens in 0.50 s)'
    """
    said, tokens = json.dumps(answer["choices"][0]["text"]), answer["usage"]["completion_tokens"]
    cut = said if len(said) <= HEAD else f"{said[:HEAD]} ..."
    return f"{cut}  ({tokens} tokens in {seconds:.2f} s)"


@contextlib.contextmanager
def _running(command: Sequence[str]) -> "Iterator[subprocess.Popen[str]]":
    """A server in a session of its own; neither it nor its engine is left."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _url(process: "subprocess.Popen[str]", deadline: float) -> str:
    """What the server prints when it is ready.

    Raises:
        NotServed: it ended, or took too long.
    """
    stdout: IO[str] | None = process.stdout
    assert stdout is not None
    ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise NotServed("the server was not ready in time", "give it longer: --seconds")
    url = stdout.readline().strip()
    if not url:
        raise NotServed(f"the server ended with exit code {process.wait()} before it was ready")
    return url


def _name(url: str, deadline: float) -> str:
    """What the model is called."""
    return str(_told(urllib.request.Request(f"{url}/v1/models"), deadline)["data"][0]["id"])  # noqa: S310  our own


def _answer(url: str, fields: Mapping[str, Any], deadline: float) -> Mapping[str, Any]:
    body = json.dumps(fields).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})  # noqa: S310
    return _told(request, deadline)


def _told(request: urllib.request.Request, deadline: float) -> Mapping[str, Any]:
    """What the server answers.

    Raises:
        NotServed: nothing came in time.
        UsageError: it refuses.
    """
    try:
        with urllib.request.urlopen(request, timeout=max(1.0, deadline - time.monotonic())) as reply:  # noqa: S310
            answer: Mapping[str, Any] = json.load(reply)
            return answer
    except urllib.error.HTTPError as error:
        raise UsageError(f"the server answered {error.code}: {error.read(400).decode(errors='replace')}") from error
    except OSError as error:
        raise NotServed(f"no answer came: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
