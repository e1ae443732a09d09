"""`autobackend serve` as a user starts it: in a process of its own, found by what it prints."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import psutil

ROOT = Path(__file__).resolve().parents[2]
START_S, END_S = 300.0, 60.0
PROGRAM = ("-m", "autobackend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that was started, and is ready."""

    process: "subprocess.Popen[str]"
    answer: dict[str, Any]
    """What --json printed."""
    said: Path
    """Its stderr."""
    clients: list[openai.OpenAI] = field(default_factory=list)
    """Those that were made; they are closed with it."""

    @property
    def url(self) -> str:
        return str(self.answer["url"])

    @property
    def model(self) -> str:
        return str(self.answer["names"][0])

    def client(self, key: str = "none") -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)
        self.clients.append(client)
        return client

    def get(self, path: str) -> tuple[int, str]:
        """Status and text."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=120)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metric(self, name: str) -> float:
        """The value of a metric that has one."""
        lines = self.get("/metrics")[1].splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"autobackend_{name}{{"))

    def family(self) -> list[psutil.Process]:
        """All processes that it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def worker(self) -> psutil.Process:
        """The process whose engine answers: a worker of ours, or llama-server."""
        programs = ("worker/main.py", "llamacpp/own_server.py")
        return next(p for p in self.family() if any(word.endswith(programs) for word in p.cmdline()))

    def told(self, number: signal.Signals) -> int:
        """Send it a signal and wait until it has ended: its exit code. Nothing that it started is left."""
        family = self.family()
        self.process.send_signal(number)
        code = self.process.wait(END_S)
        until(lambda: not [p for p in family if runs(p)], END_S)
        return code


@contextmanager
def serving(*words: object, folder: Path, program: Sequence[object] = PROGRAM, **environment: str) -> Iterator[Served]:
    """Start `autobackend serve WORDS --port 0 --json`, wait until it is ready, and see that it ends.

    Args:
        program: what this interpreter runs as `autobackend`.
    """
    said = folder / "said.txt"
    process = started(*words, folder=folder, said=said, program=program, **environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait()}:\n{said.read_text()}"
        server = Served(process=process, answer=json.loads(line), said=said)
        try:
            yield server
        finally:
            for client in server.clients:
                client.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def started(
    *words: object, folder: Path, said: Path, program: Sequence[object] = PROGRAM, **environment: str
) -> "subprocess.Popen[str]":
    """The process of `autobackend serve WORDS --port 0 --json`, whose stderr goes to a file."""
    with said.open("w") as err:
        return subprocess.Popen(
            [sys.executable, *map(str, program), "serve", *map(str, words), "--port", "0", "--json"],
            cwd=ROOT,
            env={**os.environ, "AUTOBACKEND_CACHE": str(folder / "cache.db"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )


def until(happened: Callable[[], object], seconds: float) -> float:
    """Wait until something has happened; how long that took."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() < began + seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
