"""A backend whose engine only keeps time, a step for all its requests: what a worker and its pipe cost stands out."""

import time
from collections.abc import Sequence
from typing import Any, Final

from calibration.backend import Backend, Engine, Facts, Job, Variant
from calibration.engine.streams import Delta, Finish, Request, Streams

STEP_S: Final = 0.02
"""What a small model on two cores needs for a step of several sequences."""
STEPS_BEFORE: Final = 5
"""Of a request, before its first token: as a prompt takes."""


class PacedStreams(Streams):
    """Gives each request a token a step, at fixed times."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._requests: dict[str, tuple[Request, int]] = {}
        """With the number of steps that each has seen."""
        self._due_s = 0.0

    @property
    def running(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> None:
        self._requests[request.id] = request, 0

    def step(self) -> Sequence[Delta]:
        now_s = time.monotonic()
        self._due_s = max(self._due_s + STEP_S, now_s)
        time.sleep(self._due_s - now_s)
        return [delta for request, steps in list(self._requests.values()) if (delta := self._next(request, steps))]

    def cancel(self, request_id: str) -> None:
        self._requests.pop(request_id, None)

    def _next(self, request: Request, steps: int) -> Delta | None:
        self._requests[request.id] = request, steps + 1
        count = steps + 1 - STEPS_BEFORE
        if count < 1:
            return None
        finish = Finish.LENGTH if count == request.max_tokens else None
        if finish:
            del self._requests[request.id]
        return Delta(id=request.id, tokens=(count % self._vocab_size,), finish=finish)


class PacedBackend(Backend):
    """Serves only."""

    name = "paced"
    facts = Facts(
        title="Paced",
        url="",
        package="autobackend",
        requires=("autobackend",),
        install="pip install autobackend",
        devices=frozenset({"cpu"}),
    )
    variants = (Variant(name="plain"),)

    def load(self, job: Job) -> Engine:
        raise NotImplementedError("it serves only")

    def streams(self, job: Job) -> Any:
        return PacedStreams(job.vocab_size)
