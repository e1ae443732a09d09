"""WorkerEngine: an engine that streams tokens, in a worker of its own; started, ended and asked on the event loop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.engine.streams import Ability, Delta, Request
from calibration.measurement import FailureKind
from calibration.supervision.async_serving import AsyncServingWorker
from calibration.supervision.deadline import GivenUp
from calibration.supervision.launch_spec import LaunchSpec
from calibration.supervision.replies import Trouble
from calibration.supervision.supervisor import ANEW, Worker
from calibration.supervision.workers import OPEN_S, Workers
from calibration.worker.opening import Opening
from selector.serve.keep.keeper import Refusing
from selector.serve.mailbox import Mailbox
from selector.serve.upstream import Unavailable

LOAD_S = 900.0
"""A load that takes longer is given up, as in a calibration (Limits.load_s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a worker is told to load."""

    workers: Workers
    spec: LaunchSpec
    artifact_dir: Path | None
    """The converted model, where the variant is converted."""
    log: Path
    """Takes what the engine prints."""

    @property
    def label(self) -> str:
        return self.spec.label

    @property
    def opening(self) -> Opening:
        job = self.workers.job(self.spec, self.artifact_dir)
        return Opening(backend=self.spec.candidate.backend, job=job, source=self.spec.source)


class WorkerEngine:
    """An engine and a serving: see upstream.Engine and keeper.Serving."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._running: _Running | None = None
        self._never = asyncio.Event()
        self._never.set()
        self.abilities: frozenset[Ability] = frozenset()
        """Of the engine that was loaded last."""
        self.batching = ""
        """Streams.batching of it."""

    @property
    def ready(self) -> bool:
        return not self.ended.is_set()

    @property
    def ended(self) -> asyncio.Event:
        return self._running.ended if self._running else self._never

    @property
    def ending(self) -> str:
        return self._running.ending if self._running else f"{self._launch.label} was not started"

    async def start(self) -> None:
        """See Serving.start."""
        launch = self._launch
        try:
            worker = launch.workers.start(launch.spec, launch.log)
        except GivenUp as error:
            raise Refusing(error.trouble.message) from error
        loading = asyncio.get_running_loop().run_in_executor(None, _load, worker, launch.opening)
        try:
            loaded = await asyncio.shield(loading)
        except asyncio.CancelledError:
            worker.kill()  # its pipe ends with it, and so does the thread that waits for its answer
            await asyncio.wait({loading})
            _close(worker)
            raise
        if isinstance(loaded, Trouble):
            message = f"{loaded.message.removesuffix(ANEW)}\n{worker.log_tail()}"
            await asyncio.to_thread(_close, worker)
            raise (Refusing if loaded.kind is FailureKind.REFUSED else Unavailable)(message)
        self.abilities, self.batching = loaded.abilities, loaded.batching
        running = _Running(launch.label, worker)
        try:
            trouble = await running.serving.start()
        except asyncio.CancelledError:
            await running.stop(0.0)
            raise
        if trouble is not None:
            message = f"{trouble.message}\n{worker.log_tail()}"
            await running.stop(0.0)
            raise Unavailable(message)
        self._running = running  # not before: until the worker serves, it takes no request

    async def stop(self, grace_s: float) -> None:
        """See Serving.stop."""
        running, self._running = self._running, None
        if running is not None:
            await running.stop(grace_s)

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See Engine.stream."""
        running = self._running
        if running is None or running.ended.is_set():
            raise Unavailable(f"{self._launch.label} does not run")
        return running.stream(request)


class _Running:
    """A worker that serves, until it is gone."""

    def __init__(self, label: str, worker: Worker) -> None:
        self._label, self._worker = label, worker
        self._inboxes: dict[str, Mailbox[Delta | None]] = {}
        """Of each request: what came for it; None: nothing will come any more."""
        self.ended = asyncio.Event()
        self.ending = ""
        self.serving = AsyncServingWorker(worker, on_deltas=self._deliver, on_end=self._on_end)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        inbox = self._inboxes[request.id] = Mailbox[Delta | None]()
        over = False
        self.serving.add(request)
        try:
            while not over:
                delta = await inbox.take()
                if delta is None:
                    over = True
                    reason = self.ending.partition("\n")[0]
                    raise Unavailable(f"{self._label} ended while it answered: {reason}")
                over = delta.finish is not None
                yield delta
        finally:
            del self._inboxes[request.id]
            if not over:
                self.serving.cancel(request.id)

    async def stop(self, grace_s: float) -> None:
        """Ask the worker to end, kill it where it does not, and wait until it is gone."""
        if grace_s > 0:
            self.serving.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace_s)
        self._end_with("it was stopped")
        self.serving.leave()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self.serving.kill()
        _close(self._worker)

    def _on_end(self, trouble: Trouble) -> None:
        self._end_with(f"{trouble.message.removesuffix(ANEW)}\n{self._worker.log_tail()}".rstrip())

    def _deliver(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            inbox = self._inboxes.get(delta.id)
            if inbox is not None:  # it may have been cancelled meanwhile
                inbox.put(delta)

    def _end_with(self, reason: str) -> None:
        if self.ended.is_set():
            return
        self.ending = reason
        self.ended.set()
        for inbox in self._inboxes.values():
            inbox.put(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    abilities: frozenset[Ability]
    batching: str


def _load(worker: Worker, opening: Opening) -> _Loaded | Trouble:
    """Have the worker load its engine; it takes seconds to minutes."""
    opened = worker.ask("open", timeout_s=OPEN_S, **opening.request())
    if isinstance(opened, Trouble):
        return opened
    loaded = worker.ask("load_streams", timeout_s=LOAD_S)
    if isinstance(loaded, Trouble):
        return loaded
    abilities = frozenset(Ability(name) for name in loaded.fields["abilities"])
    return _Loaded(abilities=abilities, batching=str(loaded.fields["batching"]))


def _close(worker: Worker) -> None:
    """Kill it, if it lives, and close its pipes."""
    worker.__exit__(None, None, None)
