"""What the front itself costs: the API before an engine that only keeps time, asked by our own client.

`python -m benchmarks.serving.front [--load pp64:tg64:c1 ...] [--requests 100] [--out build/front.json]`

The engine's tokens are due at fixed times, so that what the client sees later than that is the front's: its HTTP, its
JSON, its text. Told are the medians of TTFT and TPOT beyond what is due, and the CPU time of the server's process for
each token. The machine must have nothing else to do: `others` is the share of the cores that other programs used.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import psutil
import uvicorn

from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import Figure, NoPoint
from calibration.streams import Ability, Delta, Finish, Request
from calibration.whole_file import write_whole
from selector.serve.app import Settings, app
from selector.serve.tokens import TokenUpstream

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
    requests: int
    ttft_s: float
    """Median, beyond what is due."""
    tpot_s: float
    """Median, beyond what is due."""
    cpu_s: float
    """Of the server's process, for a token."""
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
    for label in arguments.load:
        cost = measure(Load.parse(label), arguments.requests)
        if isinstance(cost, NoPoint):
            print(f"{label}: {cost}", file=sys.stderr)
            return 1
        costs.append(cost)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    print("\n".join(table(costs)))
    return 0


def measure(load: Load, requests: int) -> Cost | NoPoint:
    """Ask the front under a load."""
    with _front() as (port, process):
        server = LoadedServer(
            url=f"http://127.0.0.1:{port}", model="paced", vocab_size=VOCAB_SIZE, slots=1000, pids=(process.pid,)
        )
        begin_s = sum(process.cpu_times()[:2])
        point = run_load(server, load, Measuring(budget_s=BUDGET_S, requests=requests))
        cpu_s = sum(process.cpu_times()[:2]) - begin_s
    if isinstance(point, NoPoint):
        return point
    ttft_s, tpot_s = (point.percentile(figure, 50) for figure in (Figure.TTFT, Figure.TPOT))
    assert ttft_s is not None and tpot_s is not None
    return Cost(
        load=load.label,
        requests=len(point.sample),
        ttft_s=ttft_s - TTFT_S,
        tpot_s=tpot_s - TPOT_S,
        cpu_s=cpu_s / sum(asked.output_tokens for asked in point.asked),
        others=point.foreign_share,
    )


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """A row for each load."""
    yield f"{'load':<16}{'requests':>9}{'TTFT':>12}{'TPOT':>12}{'CPU a token':>14}{'others':>9}"
    for cost in costs:
        others = "" if cost.others is None else f"{cost.others:.0%}"
        ttft, tpot, cpu = f"{cost.ttft_s * 1e3:+.2f} ms", f"{cost.tpot_s * 1e6:+.0f} us", f"{cost.cpu_s * 1e6:.0f} us"
        yield f"{cost.load:<16}{cost.requests:>9}{ttft:>12}{tpot:>12}{cpu:>14}{others:>9}"


@contextlib.contextmanager
def _front() -> Iterator[tuple[int, psutil.Process]]:
    """The front in a process of its own, and its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    front = context.Process(target=_serve, args=(theirs,), daemon=True)
    front.start()
    try:
        port = ours.recv()
        yield port, psutil.Process(front.pid)
    finally:
        front.terminate()
        front.join()


def _serve(port_to: Connection) -> None:
    upstream = TokenUpstream(Paced(), None, context_tokens=CONTEXT_TOKENS, vocab_size=VOCAB_SIZE)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        port_to.send(listening.getsockname()[1])
        application = app(upstream, Settings(names=("paced",)))
        config = uvicorn.Config(application, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main())
