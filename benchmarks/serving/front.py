"""What the front itself costs: the API before an engine that only keeps time, asked by our own client.

`python -m benchmarks.serving.front [--load pp64:tg64:c1 ...] [--requests 100] [--out build/front.json]`

The engine's tokens are due at fixed times, so that what the client sees later than that is the front's: its HTTP, its
JSON, its text. Told are the medians of TTFT and TPOT beyond what is due, and the CPU time a token of the server's
process, and of the client's. Then the engine is in a worker of its own, as `autobackend serve` has it: what the pipe
costs stands in the server's and in the worker's CPU time. For the times the machine must have nothing else to do:
`others` is the share of the cores that other programs used. CPU times bear other work.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import psutil

from benchmarks.serving import paced_engine
from benchmarks.serving.spent import cpu_s
from calibration.engine.streams import Ability, Delta, Finish, Request
from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import Figure, NoPoint, Point
from calibration.measurement import Candidate, Identity
from calibration.supervision.launch_spec import LaunchSpec, Subject
from calibration.supervision.workers import Workers
from calibration.whole_file import write_whole
from selector.demand.traffic import Traffic
from selector.serve.api.app import Settings, app
from selector.serve.api.listen import Server
from selector.serve.observers.metrics import Metrics, Served
from selector.serve.run import event_loop
from selector.serve.token_streams.engine import Launch, WorkerEngine
from selector.serve.token_streams.upstream import TokenUpstream

TTFT_S: Final = 0.1
TPOT_S: Final = 0.02
"""Of the engine: what a small model on two cores needs for a step of several sequences."""
VOCAB_SIZE: Final = 1000
CONTEXT_TOKENS: Final = 4096
LOADS: Final = ("pp64:tg64:c1", "pp64:tg64:c8", "pp64:tg64:c32")
BUDGET_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the front added under one load."""

    load: str
    in_worker: bool
    """Whether the engine has a process of its own."""
    requests: int
    ttft_s: float | None
    """Median, beyond what is due; None where the engine's steps decide when that is."""
    tpot_s: float
    """Median, beyond what is due."""
    cpu_s: float
    """Of the server's process, for a token."""
    worker_s: float | None
    """Of the engine's, for a token."""
    client_s: float
    """Of the client's, for a token."""
    others: float | None


class Paced:
    """An engine whose tokens are due at fixed times after a request came."""

    abilities: frozenset[Ability] = frozenset()
    ready = True

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Engine.stream."""
        due_s = time.monotonic() + TTFT_S
        for number in range(request.max_tokens):
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            due_s += TPOT_S
            is_last = number + 1 == request.max_tokens
            yield Delta(id=request.id, tokens=(number % VOCAB_SIZE,), finish=Finish.LENGTH if is_last else None)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.front", description=__doc__)
    parser.add_argument("--load", nargs="+", default=LOADS, metavar="LOAD", help="closed loops, such as pp64:tg64:c8")
    parser.add_argument("--requests", type=int, default=100, help="that count, of each load")
    parser.add_argument("--out", type=Path, default=Path("build/front.json"))
    arguments = parser.parse_args(argv)
    costs = []
    for in_worker in (False, True):
        for label in arguments.load:
            cost = measure(Load.parse(label), arguments.requests, in_worker=in_worker)
            if isinstance(cost, NoPoint):
                print(f"{label}: {cost}", file=sys.stderr)
                return 1
            costs.append(cost)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    print("\n".join(table(costs)))
    return 0


def measure(load: Load, requests: int, *, in_worker: bool = False) -> Cost | NoPoint:
    """Ask the front under a load."""
    with _front(in_worker=in_worker) as (port, pid, worker_pid):
        server = LoadedServer(
            url=f"http://127.0.0.1:{port}", model="paced", vocab_size=VOCAB_SIZE, slots=1000, pids=(pid,)
        )
        begin_s, worker_begin_s = cpu_s(pid), cpu_s(worker_pid)
        point = run_load(server, load, Measuring(budget_s=BUDGET_S, requests=requests))
        spent_s, worker_s = cpu_s(pid) - begin_s, cpu_s(worker_pid) - worker_begin_s
    if isinstance(point, NoPoint):
        return point
    tokens = sum(asked.output_tokens for asked in point.asked)
    tpot_s = point.percentile(Figure.TPOT, 50)
    assert tpot_s is not None
    return Cost(
        load=load.label,
        in_worker=in_worker,
        requests=len(point.sample),
        ttft_s=None if in_worker else _ttft_s(point),
        tpot_s=tpot_s - TPOT_S,
        cpu_s=spent_s / tokens,
        worker_s=worker_s / tokens if in_worker else None,
        client_s=point.client_cores * point.window_s / (tokens * len(point.sample) / len(point.asked)),
        others=point.foreign_share,
    )


def _ttft_s(point: Point) -> float:
    ttft_s = point.percentile(Figure.TTFT, 50)
    assert ttft_s is not None
    return ttft_s - TTFT_S


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """A row for each load."""
    yield (
        f"{'load':<16}{'engine':<11}{'requests':>9}{'TTFT':>12}{'TPOT':>12}{'CPU a token: front':>20}{'worker':>9}"
        f"{'client':>9}{'others':>9}"
    )
    for cost in costs:
        engine = "in worker" if cost.in_worker else "within"
        others = "" if cost.others is None else f"{cost.others:.0%}"
        ttft = "" if cost.ttft_s is None else f"{cost.ttft_s * 1e3:+.2f} ms"
        tpot, front, client = (
            f"{cost.tpot_s * 1e6:+.0f} us",
            f"{cost.cpu_s * 1e6:.0f} us",
            f"{cost.client_s * 1e6:.0f} us",
        )
        worker = "" if cost.worker_s is None else f"{cost.worker_s * 1e6:.0f} us"
        yield (
            f"{cost.load:<16}{engine:<11}{cost.requests:>9}{ttft:>12}{tpot:>12}{front:>20}{worker:>9}{client:>9}"
            f"{others:>9}"
        )


@contextlib.contextmanager
def _front(*, in_worker: bool) -> Iterator[tuple[int, int, int]]:
    """The front in a process of its own: its port, its process, and that of the engine, which may be the same."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        front = context.Process(target=_serve, args=(theirs, Path(folder), in_worker), daemon=True)
        front.start()
        try:
            port, worker_pid = ours.recv()
            assert front.pid is not None
            yield port, front.pid, worker_pid or front.pid
        finally:
            front.terminate()
            front.join()


def _serve(told_to: Connection, folder: Path, in_worker: bool) -> None:
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(_answer(told_to, folder, in_worker=in_worker))


async def _answer(told_to: Connection, folder: Path, *, in_worker: bool) -> None:
    worker_pid = 0
    engine: Paced | WorkerEngine = Paced()
    if in_worker:
        engine = WorkerEngine(_launch(folder))
        await engine.start()
        [worker_pid] = {child.pid for child in psutil.Process().children()}
    upstream = TokenUpstream(engine, None, context_tokens=CONTEXT_TOKENS, vocab_size=VOCAB_SIZE)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        told_to.send((listening.getsockname()[1], worker_pid))
        served = Served(model_name="paced", candidate="paced", source="paced", slots=1000)
        metrics = Metrics(served, Traffic(candidate="paced"))
        await Server(app(upstream, Settings(names=("paced",)), observer=metrics)).serve(sockets=[listening])


def _launch(folder: Path) -> Launch:
    """The paced engine in a worker, with room for every request."""
    identity = Identity(
        architecture="", quant="none", device="", fingerprint="", dtype="float32", device_count=1, host=""
    )
    subject = Subject(
        name="paced",
        model_dir=folder,
        weights_identity="",
        identity=identity,
        dtype="float32",
        vocab_size=VOCAB_SIZE,
        device="cpu",
        threads=1,
        memory_limit_bytes=1 << 30,
    )
    [variant] = paced_engine.PacedBackend.variants
    log = folder / "worker.log"
    log.touch()
    return Launch(
        workers=Workers(subject=subject, max_context_tokens=CONTEXT_TOKENS, max_batch=1000),
        spec=LaunchSpec(
            candidate=Candidate(backend=paced_engine.PacedBackend.name, variant=variant.name),
            variant=variant,
            python=Path(sys.executable),
            environment={},
            source=paced_engine.__file__,
        ),
        artifact_dir=None,
        log=log,
    )


if __name__ == "__main__":
    sys.exit(main())
