"""Measures a load against a server: starts the client in a process of its own, watches the cores, and makes a point."""

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import calibration
from calibration.codec import from_plain, to_plain
from calibration.errors import UsageError
from calibration.load.client.load_spec import LoadSpec, Ran
from calibration.load.load import Load
from calibration.load.sample import NoPoint, Point, RequestTargets
from calibration.load.trace import Trace
from calibration.load.watch import Reading, Watch, client_cores, foreign_share

FOREIGN_MOST = 0.05
"""Share of the cores that others may use during a load: one busy loop beside it slows an engine with as many threads as
cores 1.4 to 3.1 times."""
FAILED_MOST = 0.01
"""Share of the sample that may fail: p95 is then still told by answers."""
CACHED_MOST = 0.01
"""Share of the prompt tokens that a cache of prefixes may have answered: our prompts begin alike in a token at most."""
CLIENT_MOST = 0.5
"""Cores that the client may use: beyond that its own times are late."""
REQUESTS_LEAST = 100
"""Of 100 requests in a closed loop p95 of TTFT is within 10 % in nine of ten loads (simulated:
tests/calibration/load/test_how_many.py)."""
ROUNDS_LEAST = 5
"""Requests of a closed loop for each of its streams, at least."""
PATIENCE_S = 60.0
"""How long answers of the sample are waited for when the budget is over."""
LOOK_S = 1.0
STARTING_S = 30.0
"""How much longer than its budget and patience a client may take before it is ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedServer:
    """A server that answers, and what a load must know of it."""

    url: str
    """`http://127.0.0.1:8000`."""
    model: str
    """The name under which it is asked for."""
    vocab_size: int
    """Prompts are token ids below it."""
    key: str = ""
    slots: int = 0
    """How many requests it works on at once; 0: not known."""
    pids: tuple[int, ...] = ()
    """Its processes; their children are the server's, too. Empty: neither it is watched nor the others."""
    fields: Mapping[str, Any] = field(default_factory=lambda: {"ignore_eos": True, "return_token_ids": True})
    """What each request's body has beside the usual: what forces the length of its answer, and what lets it tell tokens
    that have no text yet, or none at all."""
    watch_gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """How long a load is measured, and for whom it ends."""

    budget_s: float
    """Of one run of it, warm-up included; what was sent by then is waited for, PATIENCE_S at most."""
    left_s: float | None = None
    """For it and for measuring it once more, which is not begun where it would end later; None: there is no end."""
    requests: int = 0
    """How many are to count at most; 0: see `requests_of`."""
    targets: RequestTargets | None = None
    """An open loop ends once it is certain whether it keeps to them."""
    seed: int = 0
    """Of lengths and arrivals: the same for all engines that are compared."""
    client_cpus: tuple[int, ...] = ()
    """Cores that the client is bound to; empty: it is not bound."""


def requests_of(load: Load, trace: Trace | None = None) -> int:
    """How many requests are to count: REQUESTS_LEAST and ROUNDS_LEAST for each stream; all of a trace."""
    if trace is not None:
        return len(trace.arrivals)
    return max(REQUESTS_LEAST, ROUNDS_LEAST * load.streams)


def run_load(
    served: LoadedServer,
    load: Load,
    measuring: Measuring,
    *,
    trace: Trace | None = None,
    tell: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Point | NoPoint:
    """Measure a load; one during which others used the cores is measured once more, and void if they did so again.

    Where no time is left for as long as it took, it is not. Blocks until it is over. The client runs in a process of
    its own and ends with this one.

    Args:
        trace: whose load it is, where it is one (`trace.load`).
        tell: called with `steady` when the window of the sample begins, with `ended` when it ends.

    Raises:
        UsageError: the load is that of a trace, and not of this one.
    """
    if load.trace != (trace.digest if trace else ""):
        found = f"the trace {trace.digest}" if trace else "none"
        raise UsageError(f"the load {load.label} needs its trace; found {found}", "name its file with --trace")
    spec = LoadSpec(
        url=served.url,
        key=served.key,
        model=served.model,
        vocab_size=served.vocab_size,
        fields=served.fields,
        load=load,
        arrivals=trace.arrivals if trace else (),
        seed=str(measuring.seed),
        prompt_seed=f"{measuring.seed} {os.urandom(4).hex()}",
        requests=measuring.requests or requests_of(load, trace),
        targets=measuring.targets,
        slots=served.slots,
        budget_s=measuring.budget_s,
        patience_s=PATIENCE_S,
        cpus=measuring.client_cpus,
    )
    began = clock()
    first = measure(served, spec, tell=tell)
    if isinstance(first, NoPoint) or (first.foreign_share or 0.0) <= FOREIGN_MOST:
        return first
    took_s = clock() - began
    left_s = math.inf if measuring.left_s is None else measuring.left_s - took_s
    if took_s > left_s:
        return first
    second = measure(served, _anew(spec, left_s), tell=tell)
    if isinstance(second, NoPoint) or (second.foreign_share or 0.0) > (first.foreign_share or 0.0):
        return first
    return second


def measure(served: LoadedServer, spec: LoadSpec, *, tell: Callable[[str], None] = lambda _: None) -> Point | NoPoint:
    """Run the client once."""
    marks: dict[str, Reading] = {}
    outcome: Ran | NoPoint | None = None
    with _started() as (process, log):
        assert process.stdin is not None
        watch = Watch(process.pid, served.pids, watch_gpu=served.watch_gpu)
        # The pipe stays open: when it ends, the client ends.
        with contextlib.suppress(BrokenPipeError):  # it is gone already: what it complained of is told below
            process.stdin.write((json.dumps(to_plain(spec)) + "\n").encode())
            process.stdin.flush()
        for told in _events(process, spec.budget_s + 2 * spec.patience_s + STARTING_S, watch):
            match told.get("event"):
                case "result":
                    outcome = from_plain(Ran, told["ran"])
                case "failed":
                    outcome = NoPoint(load=spec.load, reason=str(told["reason"]))
                case event:
                    marks[str(event)] = watch.read()
                    tell(str(event))
        if outcome is None:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            outcome = NoPoint(
                load=spec.load, reason=f"the load client failed: {lines[-1] if lines else 'it was ended'}"
            )
    if isinstance(outcome, NoPoint):
        return outcome
    return _point(spec, outcome, marks, watch, watched=bool(served.pids))


def _point(spec: LoadSpec, ran: Ran, marks: Mapping[str, Reading], watch: Watch, *, watched: bool) -> Point:
    began, ended = marks.get("steady"), marks.get("ended")
    foreign = foreign_share(began, ended) if watched and began and ended else None
    cores = client_cores(began, ended) if began and ended else 0.0
    point = Point(
        load=spec.load,
        seed=int(spec.seed),
        asked=ran.asked,
        begin_s=ran.begin_s,
        end_s=ran.end_s,
        end=ran.end,
        targets=None if spec.load.trace else spec.targets,
        saturated=ran.saturated,
        foreign_share=None if foreign is None else round(foreign, 4),
        client_cores=round(cores, 4),
        peak_memory_bytes=watch.peak_memory_bytes,
        peak_gpu_memory_bytes=watch.peak_gpu_memory_bytes,
        text_prompts=ran.text_prompts,
    )
    return _judged(point)


def _judged(point: Point) -> Point:
    """The point, and whether its figures are to be believed."""
    failures, sample = point.failures, len(point.sample)
    foreign, cached = 100 * (point.foreign_share or 0.0), 100 * point.cached_share
    void = ""
    if foreign > 100 * FOREIGN_MOST:
        void = f"other programs used {foreign:.0f} % of the cores; {100 * FOREIGN_MOST:.0f} % are allowed"
    elif not point.saturated and len(failures) > FAILED_MOST * sample:
        void = f"{len(failures)} of {sample} requests failed: {failures[0]}"
    elif cached > 100 * CACHED_MOST:
        void = f"a cache of prefixes answered {cached:.0f} % of the prompt tokens"
    elif point.client_cores > CLIENT_MOST:
        void = f"the load client used {point.client_cores:.2f} cores; {CLIENT_MOST:g} are allowed"
    return replace(point, void=void)


def _anew(spec: LoadSpec, left_s: float) -> LoadSpec:
    """The same load with other prompts, in the time that is left."""
    prompt_seed = f"{spec.seed} {os.urandom(4).hex()}"
    return replace(spec, prompt_seed=prompt_seed, budget_s=min(spec.budget_s, left_s))


@contextlib.contextmanager
def _started() -> "Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]":
    """The client, and the file that takes what it complains of; it is gone afterwards."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            # -P: no module of the folder in which we were started; -S: the standard library is all that it needs
            [sys.executable, "-P", "-S", "-m", "calibration.load.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(calibration.__file__).resolve().parents[1])},
        )
        try:
            yield process, log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


def _events(process: "subprocess.Popen[bytes]", most_s: float, watch: Watch) -> Iterator[dict[str, Any]]:
    """What the client tells, until it ends; its time is limited, and the server's memory is looked at meanwhile."""
    assert process.stdout is not None
    deadline, looked, rest = time.monotonic() + most_s, 0.0, b""
    while (now := time.monotonic()) < deadline:
        if now - looked >= LOOK_S:
            looked = now
            watch.look_at_memory()
        ready, _, _ = select.select([process.stdout], [], [], LOOK_S)
        if ready:
            came = os.read(process.stdout.fileno(), 1 << 16)
            if not came:
                return
            *lines, rest = (rest + came).split(b"\n")
            yield from map(json.loads, lines)
