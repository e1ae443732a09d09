"""A candidate's conversion: its key, what it will take, and how it comes into the store."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from calibration.conversion.estimate import Estimate, Watch, estimate
from calibration.conversion.store import LOG, Artifact, ArtifactStore, converted_key
from calibration.errors import ArtifactError
from calibration.measurement import FailureKind
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import Events, LaunchSpec, Limits
from calibration.supervision.supervisor import Trouble, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The model that is converted."""

    name: str
    weights: str
    """Identity of its weights."""
    parameters: int
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One result in the store; variants may share it."""

    key: Mapping[str, str]
    expected: Estimate


class Launching(Protocol):
    """What a conversion needs of who launches; launch.Launcher is one."""

    once_s: float

    @property
    def store(self) -> ArtifactStore:
        """See Launcher."""

    @property
    def reporter(self) -> Events:
        """See Launcher."""

    @property
    def limits(self) -> Limits:
        """See Launcher."""

    @property
    def clock(self) -> Callable[[], float]:
        """See Launcher."""

    @property
    def original(self) -> Original:
        """See Launcher."""

    def worker(self, entry: LaunchSpec, log: Path) -> Worker:
        """See Launcher."""

    def opened(self, entry: LaunchSpec, worker: Worker, artifact: Artifact | None, step: Deadline, stage: str) -> None:
        """See Launcher."""


def conversion(entry: LaunchSpec, original: Original, known: Sequence[Artifact]) -> Conversion:
    """Of a candidate that is converted.

    Args:
        known: what is in the store, from which the estimate is made.
    """
    return Conversion(
        key=converted_key(
            weights=original.weights,
            candidate=entry.candidate,
            converter=entry.converter,
            model=original.name,
            prepared_as=entry.variant.prepared_as,
        ),
        expected=estimate(
            entry.candidate.backend,
            entry.variant,
            parameters=original.parameters,
            dtype=original.dtype,
            rate=entry.prepare_rate,
            known=known,
        ),
    )


def missing(entries: Iterable[LaunchSpec], original: Original, store: ArtifactStore) -> dict[str, Estimate]:
    """What these candidates need that the store has not: the first candidate that needs it, and what it will take."""
    known = store.list()
    found: dict[tuple[tuple[str, str], ...], tuple[str, Estimate]] = {}
    for entry in entries:
        if entry.variant.prepares:
            wanted = conversion(entry, original, known)
            if store.get(wanted.key) is None:
                found.setdefault(tuple(sorted(wanted.key.items())), (entry.label, wanted.expected))
    return dict(found.values())


def made(launcher: Launching, entry: LaunchSpec, log: Path, step: Deadline, *, waits: bool = True) -> Artifact:
    """The converted model: found in the store, or made by a worker.

    Args:
        waits: for another process that makes the same.

    Raises:
        GivenUp: it failed, or the budget ended first.
    """
    wanted = conversion(entry, launcher.original, launcher.store.list())

    def tell(elapsed_s: float, written_bytes: int) -> None:
        launcher.reporter.event(
            "preparing", candidate=entry.label, estimate=wanted.expected, elapsed_s=elapsed_s, bytes=written_bytes
        )

    def build(destination: Path) -> None:
        launcher.reporter.event("prepare", candidate=entry.label, estimate=wanted.expected)
        with launcher.worker(entry, log) as worker, Watch(destination, tell, launcher.clock):
            launcher.opened(entry, worker, None, step, "prepare")
            step.ask(worker, "prepare", launcher.limits.prepare_s, "prepare", destination=str(destination))
        # What the worker printed so far is the conversion's: the one that measures begins after it.
        shutil.copyfile(log, destination.parent / LOG)

    began = launcher.clock()
    try:
        return launcher.store.make(
            wanted.key,
            build,
            what="the conversion",
            needed_bytes=wanted.expected.needed_bytes,
            waiting=lambda: launcher.reporter.event("waiting", candidate=entry.label),
            patience_s=step.left_s() if waits else 0.0,
        )
    except ArtifactError as error:
        mend = f" ({error.mend}; --again tries anew)" if error.mend else ""
        raise GivenUp("prepare", Trouble(kind=FailureKind.REFUSED, message=error.message + mend)) from error
    except TimeoutError as error:
        message = "another calibration was still converting the same"
        trouble = Trouble(kind=FailureKind.TIMED_OUT, message=message, at_deadline=True)
        raise GivenUp("prepare", trouble) from error
    finally:
        launcher.once_s += launcher.clock() - began
