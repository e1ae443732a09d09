"""An engine asked without a front: its worker, by the process that notes when tokens come, or the server it brings."""

import asyncio
import contextlib
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from calibration.engine.streams import Delta, Finish, Request
from calibration.errors import AutobackendError, UsageError
from calibration.load.client.draws import Planned, plan, prompt_ids
from calibration.load.client.load_spec import LoadSpec
from calibration.load.run import LoadedServer, measure
from calibration.load.sample import Asked, End, NoPoint, Point
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import Limits
from calibration.supervision.replies import Trouble
from calibration.supervision.serving import ServingWorker
from calibration.supervision.supervisor import Worker
from selector.serve.assemble import assemble
from selector.serve.own_server import OwnServerUpstream
from selector.serve.prepare import Prepared

ANSWER_S: Final = 600.0
"""An engine that tells nothing for so long is stuck."""


class Bare(Protocol):
    """An engine without our front."""

    def run(self, spec: LoadSpec) -> Point:
        """Have a closed loop's requests answered, all of which count.

        Raises:
            AutobackendError: the engine ended, or an answer is not as long as asked for.
        """


@contextlib.contextmanager
def loaded(prepared: Prepared, log: Path) -> Iterator[Bare]:
    """The engine as `autobackend serve` starts it, without what stands before it; it is gone afterwards.

    Raises:
        GivenUp, Unavailable: it cannot be loaded.
    """
    log.touch()
    upstream = assemble(prepared, names=("bare",), keys=(), log=log).upstream
    if isinstance(upstream, OwnServerUpstream):
        with asyncio.Runner() as runner:
            runner.run(upstream.start())
            try:
                yield BareServer(upstream)
            finally:
                runner.run(upstream.stop(0.0))
        return
    deadline = Deadline(None, time.monotonic)
    with prepared.workers.opened(prepared.spec, log, deadline, "serve", prepared.artifact_dir) as worker:
        deadline.ask(worker, "load", Limits().load_s, "load_streams")
        engine = BareEngine(worker)
        try:
            yield engine
        finally:
            engine.kill()


class BareServer:
    """The server that an engine brings, asked by the client that asks the front, too."""

    def __init__(self, server: OwnServerUpstream) -> None:
        self._server = server

    def run(self, spec: LoadSpec) -> Point:
        """See Bare."""
        server, place = self._server.described
        if not server.takes_token_ids:
            raise UsageError("this engine's server takes token ids by an API of its own, which the load client lacks")
        fields = {**server.fields, **server.greedy, **server.forced_length}
        there = LoadedServer(
            url=f"http://{place.host}:{place.port}",
            key=place.key,
            model=place.served_name,
            vocab_size=spec.vocab_size,
            fields=fields,
            pids=(self._server.pid,),
        )
        point = measure(there, replace(spec, url=there.url, key=there.key, model=there.model, fields=fields))
        if isinstance(point, NoPoint):
            raise AutobackendError(f"the engine's server could not be measured: {point.reason}")
        if point.failures:
            raise AutobackendError(f"the engine's server failed: {point.failures[0]}")
        return point


class BareEngine:
    """An engine that takes the requests of a load. `kill` must have been called before its worker is left."""

    def __init__(self, worker: Worker) -> None:
        self._come: queue.SimpleQueue[tuple[float, Delta] | Trouble] = queue.SimpleQueue()
        self._serving = ServingWorker(worker, on_deltas=self._note, on_end=self._come.put)
        if (trouble := self._serving.start()) is not None:
            raise _failed(trouble)

    def run(self, spec: LoadSpec) -> Point:
        """See Bare."""
        began = time.monotonic()
        waiting = islice(plan(spec.load, spec.seed), spec.requests)
        running, over = dict[str, _Running](), list[_Running]()

        def send_next() -> None:
            if (planned := next(waiting, None)) is not None:
                request = _request(planned, spec)
                running[request.id] = _Running(planned=planned, sent_s=time.monotonic() - began)
                with contextlib.suppress(BrokenPipeError):  # it is gone, and its end comes next
                    self._serving.add(request)

        for _ in range(spec.load.streams):
            send_next()
        while running:
            at_s, delta = self._next()
            request = running[delta.id]
            request.tokens += len(delta.tokens)
            if delta.tokens:
                request.chunks_s.append(at_s - began)
            if delta.finish is not None:
                _check_whole(request, delta)
                over.append(running.pop(delta.id))
                send_next()
        return Point(
            load=spec.load,
            seed=int(spec.seed),
            asked=tuple(request.asked() for request in sorted(over, key=lambda each: each.sent_s)),
            begin_s=0.0,
            end_s=max(request.chunks_s[-1] for request in over),
            end=End.REQUESTS,
        )

    def kill(self) -> None:
        self._serving.kill()

    def _next(self) -> tuple[float, Delta]:
        try:
            come = self._come.get(timeout=ANSWER_S)
        except queue.Empty:
            raise AutobackendError(f"the engine told nothing for {ANSWER_S:g} s") from None
        if isinstance(come, Trouble):
            raise _failed(come)
        return come

    def _note(self, deltas: Sequence[Delta]) -> None:
        at_s = time.monotonic()
        for delta in deltas:
            self._come.put((at_s, delta))


@dataclass(slots=True, kw_only=True)
class _Running:
    """A request that is being answered; times count from the load's begin."""

    planned: Planned
    sent_s: float
    chunks_s: list[float] = field(default_factory=list)
    tokens: int = 0

    def asked(self) -> Asked:
        return Asked(
            number=self.planned.number,
            sent_s=self.sent_s,
            chunks_s=tuple(self.chunks_s),
            prompt_tokens=self.planned.prompt_tokens,
            output_tokens=self.tokens,
        )


def _request(planned: Planned, spec: LoadSpec) -> Request:
    """As the front makes it of the client's body: greedy, with no token that ends it."""
    prompt = prompt_ids(spec.prompt_seed, planned.number, planned.prompt_tokens, spec.vocab_size)
    return Request(id=f"{spec.prompt_seed} {planned.number}", prompt=tuple(prompt), max_tokens=planned.output_tokens)


def _check_whole(request: _Running, last: Delta) -> None:
    if last.finish is Finish.ERROR:
        raise AutobackendError(f"the engine does not answer: {last.message}")
    if request.tokens != request.planned.output_tokens:
        raise AutobackendError(
            f"the answer has {request.tokens} tokens; {request.planned.output_tokens} were asked for"
        )


def _failed(trouble: Trouble) -> AutobackendError:
    return AutobackendError(f"the engine ended: {trouble.message}")
