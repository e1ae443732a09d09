"""Runs a command that was printed, in a shell, as a server that is asked over HTTP."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Deployment
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec

DEMAND = Demand(workloads=(Workload(prompt_tokens=16, output_tokens=8),))
START_S, ANSWER_S, STOP_S = 300.0, 120.0, 60.0


def printed(backend: Backend, variant: str, place: Path, artifact: Path | None = None, demand: Demand = DEMAND) -> str:
    """The command for a folder, or for a .gguf file."""
    deployment = deployed(str(place), ModelSpec.read(str(place)), demand)
    artifact_dir = str(artifact) if artifact else None
    command = backend.command(backend.variant(variant), replace(deployment, artifact_dir=artifact_dir))
    assert command is not None
    return command


def deployed(place: str, model: ModelSpec | None = None, demand: Demand | None = None) -> Deployment:
    """A model, or a shape that stands for one, on this machine's device."""
    return Deployment(
        model=model or ModelSpec.read("shape:gpt2"),
        place=place,
        artifact_dir=None,
        device=HostSpec.detect().device,
        demand=demand or Demand(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that a command started."""

    port: int

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer; a GET where there is no body."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=ANSWER_S)
        try:
            text = None if body is None else json.dumps(body)
            connection.request("GET" if text is None else "POST", path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read().decode()
            assert answer.status == 200, content
            return json.loads(content or "null")
        finally:
            connection.close()


@contextmanager
def served(
    command: str, port: int, folder: Path, *, health: str = "/health", python: Path = Path(sys.executable)
) -> Iterator[Served]:
    """Start a command's server in `folder`, wait until it is well, and stop it with Ctrl-C; nothing of it is left."""
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], cwd=folder, env=shell(python), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    server = Served(port=port)
    try:
        _wait_until_well(server, health, process, log)
        yield server
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP_S)
        assert family(process.pid) == [], log.read_text(errors="replace")[-3000:]
    finally:
        for left in family(process.pid):
            os.kill(left, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """One below those that the kernel gives away by itself: so it is still free when a server has loaded its engine."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first_given // 2, first_given)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def shell(python: Path = Path(sys.executable)) -> dict[str, str]:
    """The environment of a shell in which the programs of an interpreter come first."""
    return {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}


def family(session: int) -> list[int]:
    """The living processes of a session."""
    living = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            living.append(int(stat.parent.name))
    return living


def _wait_until_well(server: Served, health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            server.ask(health)
            return
        except (OSError, http.client.HTTPException, AssertionError):
            said = log.read_text(errors="replace")[-3000:]
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{said}"
            assert time.monotonic() < end, f"the server is not well after {START_S} s:\n{said}"
            time.sleep(0.2)
