"""Several conversions at once: a converter keeps one core busy, so the next candidates' run beside the due one."""

import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from calibration.conversion.artifact import Artifact
from calibration.conversion.convert import Converter, missing
from calibration.events import ConvertedAlongside, Silent
from calibration.facts.conversions import PrepareMemory
from calibration.measurement import FailureKind
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec
from calibration.supervision.replies import Trouble
from calibration.supervision.supervisor import Worker
from calibration.supervision.workers import Workers


@contextmanager
def side_by_side(
    converter: Converter, spec: LaunchSpec, upcoming: Sequence[LaunchSpec], folder: Path, deadline: Deadline
) -> Iterator[None]:
    """While the body converts for `spec`, convert for candidates that come after it; nothing runs when it is left.

    Where the candidate's conversion is there already, nothing is begun. A conversion that fails, or that another
    process makes, is left to its own launch, which says why.

    Args:
        upcoming: in the order of their launches.
        folder: for the logs.
        deadline: ends the other conversions, too.
    """
    chosen = _chosen(converter, spec, upcoming)
    if not chosen:
        yield
        return
    labels = tuple(other.label for other in chosen)
    converter.reporter.report(ConvertedAlongside(candidate=spec.label, others=labels))
    workers = _StoppableWorkers(
        subject=converter.workers.subject,
        max_context_tokens=converter.workers.max_context_tokens,
        max_batch=converter.workers.max_batch,
    )
    # The candidate that is due has the screen.
    quiet = replace(converter, workers=workers, reporter=Silent())
    with ThreadPoolExecutor(len(chosen)) as pool:
        conversions = [pool.submit(_convert, quiet, other, folder, deadline) for other in chosen]
        try:
            yield
        except GivenUp:
            _wait_for(conversions)
            raise
        else:
            _wait_for(conversions)
        finally:
            workers.stop()


def _chosen(converter: Converter, spec: LaunchSpec, upcoming: Sequence[LaunchSpec]) -> list[LaunchSpec]:
    """As many of the next that lack their conversion as cores, memory and disk hold beside the one that is due."""
    lacking = missing([spec, *upcoming], converter.original, converter.store)
    if spec.label not in lacking:
        return []
    subject, free = converter.workers.subject, converter.store.free_bytes()
    memory = accumulate(expected.memory_bytes or PrepareMemory().start_bytes for expected in lacking.values())
    disk = accumulate(expected.needed_bytes for expected in lacking.values())
    fitting = sum(
        held <= subject.memory_limit_bytes and written <= free for held, written in zip(memory, disk, strict=True)
    )
    labels = list(lacking)[1 : min(subject.threads, fitting)]
    return [other for other in upcoming if other.label in labels]


def _convert(converter: Converter, spec: LaunchSpec, folder: Path, deadline: Deadline) -> Artifact:
    """Raises GivenUp where the conversion fails, is stopped, or another process makes the same."""
    log = folder / f"alongside-{uuid.uuid4().hex}.log"
    log.touch()
    return converter.convert(spec, log, deadline, waits=False)


def _wait_for(conversions: Iterable[Future[Artifact]]) -> None:
    for conversion in conversions:
        with suppress(GivenUp):
            conversion.result()


@dataclass(frozen=True, kw_only=True)
class _StoppableWorkers(Workers):
    """Workers that run in threads of their own, and that another thread can stop."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _running: list[Worker] = field(default_factory=list)

    def start(self, spec: LaunchSpec, log: Path) -> Worker:
        with self._lock:
            if self._stopped.is_set():
                raise GivenUp("prepare", Trouble(kind=FailureKind.CRASHED, message="stopped"))
            worker = super().start(spec, log)
            self._running.append(worker)
            return worker

    def stop(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self._stopped.set()
            for worker in self._running:
                worker.kill()
