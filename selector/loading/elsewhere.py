"""The engine of a selection in a worker: a handle that generates and streams, whose process ends with the program."""

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Generator, Sequence

from calibration.backend import Generation, Rows
from calibration.engine.streams import Ability, Delta, Finish, Request
from calibration.errors import BackendError
from calibration.supervision.replies import Trouble
from selector.loading.choice import Choice
from selector.loading.loaded import Loaded, LoadedEngine
from selector.loading.worker import serve

_Arrived = tuple[float, Delta]
"""The clock when it was read, and a delta."""


class _Inbox:
    """What a worker told, by request; filled on the thread that reads its pipe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, queue.SimpleQueue[_Arrived | Trouble]] = {}
        self._ended: Trouble | None = None

    def open(self, request_id: str) -> "queue.SimpleQueue[_Arrived | Trouble]":
        """Where the deltas of a request will arrive."""
        arriving: queue.SimpleQueue[_Arrived | Trouble] = queue.SimpleQueue()
        with self._lock:
            self._open[request_id] = arriving
            if self._ended is not None:
                arriving.put(self._ended)
        return arriving

    def shut(self, request_id: str) -> None:
        with self._lock:
            self._open.pop(request_id, None)

    def take(self, deltas: Sequence[Delta]) -> None:
        now = time.perf_counter()
        with self._lock:
            for delta in deltas:
                if delta.id in self._open:
                    self._open[delta.id].put((now, delta))

    def end(self, trouble: Trouble) -> None:
        with self._lock:
            self._ended = trouble
            for arriving in self._open.values():
                arriving.put(trouble)


class EngineElsewhere(LoadedEngine):
    """An engine in a process of its own. Several threads may use it: their requests run side by side where it can.

    It gives no scores. `close`, when none of them uses it any more, ends its process; so does the end of the program,
    however that comes.
    """

    def __init__(self, choice: Choice, *, max_batch: int, loaded: Loaded) -> None:
        """Start it.

        Raises:
            BackendError, ArtifactError, ModelError: see worker.serve.
        """
        super().__init__(loaded)
        self._inbox = _Inbox()
        served = serve(
            choice,
            max_context_tokens=loaded.max_context_tokens,
            max_batch=max_batch,
            on_deltas=self._inbox.take,
            on_end=self._inbox.end,
        )
        self._serving, self._abilities = served.serving, served.abilities
        self._end = weakref.finalize(self, served.end)

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._abilities

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """Greedy, exactly `new_tokens` tokens for every prompt; arrivals are the times at which they were here.

        Raises:
            UsageError: a prompt that cannot be, or more tokens than the engine was loaded for.
            BackendError: the engine failed, or gave another number of tokens.
        """
        requests = [self._request(prompt, new_tokens) for prompt in prompts]
        arriving = [self._inbox.open(request.id) for request in requests]
        began = time.perf_counter()
        try:
            for request in requests:
                self._add(request)
            paths = [self._path(request, rows, began) for request, rows in zip(requests, arriving, strict=True)]
        except BaseException:
            for request in requests:
                self._cancel(request)
            raise
        finally:
            for request in requests:
                self._inbox.shut(request.id)
        if any(len(tokens) != new_tokens for tokens, _ in paths):
            lengths = [len(tokens) for tokens, _ in paths]
            raise BackendError(
                f"{self._loaded.label} was asked for {new_tokens} tokens of each of {len(prompts)} prompts;"
                f" it gave {lengths}"
            )
        return Generation(tokens=tuple(tokens for tokens, _ in paths), arrivals=tuple(times for _, times in paths))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        """None: a worker that serves gives no scores."""
        return None

    def close(self) -> None:
        self._end()

    def _deltas(self, request: Request) -> Generator[Delta]:
        arriving = self._inbox.open(request.id)
        self._add(request)
        ended = False
        try:
            while not ended:
                _, delta = self._next(arriving)
                ended = delta.finish is not None
                yield delta
        finally:
            self._inbox.shut(request.id)
            if not ended:
                self._cancel(request)

    def _path(
        self, request: Request, arriving: "queue.SimpleQueue[_Arrived | Trouble]", began: float
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Tokens and arrivals of one prompt."""
        tokens: list[int] = []
        times: list[float] = []
        while True:
            at, delta = self._next(arriving)
            if delta.finish is Finish.ERROR:
                raise BackendError(f"{self._loaded.label} failed for a prompt of {self._loaded.model}: {delta.message}")
            tokens += delta.tokens
            times += [at - began] * len(delta.tokens)
            if delta.finish is not None:
                return tuple(tokens), tuple(times)

    def _next(self, arriving: "queue.SimpleQueue[_Arrived | Trouble]") -> _Arrived:
        match arriving.get():
            case Trouble() as trouble:
                raise self._gone(trouble.message)
            case arrived:
                return arrived

    def _add(self, request: Request) -> None:
        if not self._end.alive:
            raise self._gone("it was closed")
        try:
            self._serving.add(request)
        except BrokenPipeError as error:
            raise self._gone(str(error)) from error

    def _cancel(self, request: Request) -> None:
        """End a request; a worker that is gone has ended it."""
        if self._end.alive:
            with contextlib.suppress(BrokenPipeError):
                self._serving.cancel(request.id)

    def _gone(self, why: str) -> BackendError:
        return BackendError(
            f"{self._loaded.label} with {self._loaded.model} has ended: {why}", "load it again: select(...).load()"
        )
