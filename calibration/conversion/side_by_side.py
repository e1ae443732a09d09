"""Several conversions at once: a converter keeps one core busy, so the next candidates' run beside the due one."""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from calibration.conversion import convert as conversion
from calibration.conversion.store import Artifact, ArtifactStore
from calibration.measurement import FailureKind
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Limits
from calibration.supervision.supervisor import Trouble, Worker

START_BYTES = 1 << 30
"""Of an interpreter that has imported torch and a converter."""
BYTES_PER_PARAMETER = 16
"""A converter may hold the model in float32, the same as a graph, and what it writes."""


class Launching(conversion.Launching, Protocol):
    """What several conversions need of who launches; launch.Launcher is one."""

    @property
    def folder(self) -> Path:
        """For their logs."""

    @property
    def threads(self) -> int:
        """Usable cores."""

    @property
    def memory_limit_bytes(self) -> int:
        """See Subject."""


@contextmanager
def side_by_side(
    launcher: Launching, entry: LaunchSpec, upcoming: Sequence[LaunchSpec], step: Deadline
) -> Iterator[None]:
    """While the body converts for `entry`, convert for candidates that come after it; nothing runs when it is left.

    Where the candidate's conversion is there already, nothing is begun. One that fails, or that another process makes,
    is left to its own launch, which says why.

    Args:
        upcoming: in their order.
        step: ends them, too, with the budget.
    """
    chosen = _chosen(launcher, entry, upcoming)
    if not chosen:
        yield
        return
    launcher.reporter.event("alongside", candidate=entry.label, others=[other.label for other in chosen])
    quiet = [_Quiet(launcher=launcher) for _ in chosen]
    with ThreadPoolExecutor(len(chosen)) as pool:
        converting = [pool.submit(one.convert, other, step) for one, other in zip(quiet, chosen, strict=True)]
        try:
            yield
        except GivenUp:
            _finish(launcher, converting)
            raise
        else:
            _finish(launcher, converting)
        finally:
            for one in quiet:
                one.stop()


def _finish(launcher: Launching, converting: Iterable[Future[Artifact]]) -> None:
    began = launcher.clock()
    for future in converting:
        with suppress(GivenUp):
            future.result()
    launcher.once_s += launcher.clock() - began


def _chosen(launcher: Launching, entry: LaunchSpec, upcoming: Sequence[LaunchSpec]) -> list[LaunchSpec]:
    """As many of the next that lack their conversion as cores, memory and disk hold beside the one that is due."""
    lacking = conversion.missing([entry, *upcoming], launcher.original, launcher.store)
    if entry.label not in lacking:
        return []
    each = START_BYTES + BYTES_PER_PARAMETER * launcher.original.parameters
    room = min(launcher.threads, launcher.memory_limit_bytes // each)
    free = launcher.store.free_bytes()
    fitting = sum(total <= free for total in accumulate(expected.needed_bytes for expected in lacking.values()))
    wanted = list(lacking)[1 : min(room, fitting)]
    return [other for other in upcoming if other.label in wanted]


class _Silent:
    def event(self, name: str, **fields: Any) -> None:
        """The candidate that is due has the screen."""


@dataclass(kw_only=True)
class _Quiet:
    """A launcher for one conversion in a thread of its own, that another thread can stop."""

    launcher: Launching
    once_s: float = 0.0
    """Counted by who waits for it."""
    _worker: Worker | None = None
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    reporter: _Silent = field(default_factory=_Silent)

    @property
    def store(self) -> ArtifactStore:
        return self.launcher.store

    @property
    def limits(self) -> Limits:
        return self.launcher.limits

    @property
    def clock(self) -> Callable[[], float]:
        return self.launcher.clock

    @property
    def original(self) -> conversion.Original:
        return self.launcher.original

    def convert(self, entry: LaunchSpec, step: Deadline) -> Artifact:
        """Raises GivenUp where it fails, is stopped, or another process makes it."""
        log = self.launcher.folder / f"alongside-{uuid.uuid4().hex}.log"
        log.touch()
        return conversion.made(self, entry, log, step, waits=False)

    def worker(self, entry: LaunchSpec, log: Path) -> Worker:
        with self._lock:
            if self._stopped:
                raise GivenUp("prepare", Trouble(kind=FailureKind.CRASHED, message="stopped"))
            self._worker = self.launcher.worker(entry, log)
            return self._worker

    def opened(self, entry: LaunchSpec, worker: Worker, artifact: Artifact | None, step: Deadline, stage: str) -> None:
        self.launcher.opened(entry, worker, artifact, step, stage)

    def stop(self) -> None:
        """Kill what still runs; one that is done has nothing left to kill."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.kill()
