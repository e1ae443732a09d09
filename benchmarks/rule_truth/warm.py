"""Workers that load one small model after another: importing an engine takes far longer than a small model does.

What a worker that has loaded others says is not the last word: see trial.py. A worker that failed in any way but by
refusing a model, or that has loaded MOST_MODELS, is ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from calibration.launch.session import Session
from calibration.measurement import FailureKind
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.supervisor import Worker
from calibration.supervision.workers import OPEN_S, Workers
from calibration.worker.opening import Opening

MOST_MODELS = 40
"""Openings of one worker: what engines do not give back stays small."""


@dataclass(slots=True)
class Pool:
    """The workers that wait for another model, one for each interpreter and backend."""

    _waiting: dict[tuple[str, ...], "_Lent"] = field(default_factory=dict)

    def take(self, key: tuple[str, ...]) -> "_Lent | None":
        return self._waiting.pop(key, None)

    def give_back(self, key: tuple[str, ...], lent: "_Lent") -> None:
        """Keep it for another model, or end it."""
        if lent.failed or lent.models >= MOST_MODELS or key in self._waiting:
            lent.end()
        else:
            self._waiting[key] = lent

    def end(self) -> None:
        """End all of them."""
        while self._waiting:
            self._waiting.popitem()[1].end()


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmSession(Session):
    """A session whose workers may have loaded other models before."""

    pool: Pool

    @property
    def workers(self) -> Workers:
        # Not by super(): it does not know a class that `slots` made anew.
        usual: Workers = vars(Session)["workers"].fget(self)
        return _WarmWorkers(
            subject=usual.subject,
            max_context_tokens=usual.max_context_tokens,
            max_batch=usual.max_batch,
            pool=self.pool,
        )


@dataclass(frozen=True, kw_only=True)
class _WarmWorkers(Workers):
    pool: Pool

    @contextmanager
    def opened(
        self, spec: LaunchSpec, log: Path, deadline: Deadline, stage: str, artifact_dir: Path | None = None
    ) -> Iterator[Worker]:
        """See Workers.opened."""
        key = (spec.candidate.backend, str(spec.python), spec.source, repr(sorted(spec.variables.items())))
        lent = self.pool.take(key)
        if lent is None:
            lent = _Lent(self.start(spec, log.with_name(f"{spec.candidate.backend}.log")))
        lent.models += 1
        opening = Opening(backend=spec.candidate.backend, job=self.job(spec, artifact_dir), source=spec.source)
        try:
            # It answers what a launch asks of a Worker.
            worker = cast("Worker", lent)
            deadline.ask(worker, stage, OPEN_S, "open", **opening.request())
            yield worker
        except GivenUp as given_up:
            lent.failed |= given_up.trouble.kind is not FailureKind.REFUSED
            raise
        except BaseException:
            lent.failed = True
            raise
        finally:
            self.pool.give_back(key, lent)


@dataclass(slots=True)
class _Lent:
    """A worker as a launch sees it, which stays when the launch is over."""

    worker: Worker
    models: int = 0
    failed: bool = False

    @property
    def peak_memory_bytes(self) -> int:
        return self.worker.peak_memory_bytes

    @property
    def peak_unmapped_bytes(self) -> int:
        return self.worker.peak_unmapped_bytes

    @property
    def peak_gpu_memory_bytes(self) -> int:
        return self.worker.peak_gpu_memory_bytes

    def ask(self, verb: str, *, timeout_s: float, **fields: Any) -> Reply | Trouble:
        """As Worker.ask; the engine is closed when the next model is loaded, or with the worker."""
        if verb == "close":
            return Reply(fields={}, seconds=0.0, foreign_cores=0.0)
        answer = self.worker.ask(verb, timeout_s=timeout_s, **fields)
        if isinstance(answer, Trouble) and answer.kind is not FailureKind.REFUSED:
            self.failed = True
        return answer

    def end(self) -> None:
        self.worker.__exit__(None, None, None)
