"""A candidate's conversion: its key, what it will take, and how it comes into the store."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.conversion.artifact import LOG, Artifact, Watched, converted_key
from calibration.conversion.estimate import Estimate, Watch, estimate
from calibration.conversion.store import ArtifactStore
from calibration.errors import ArtifactError
from calibration.events import ConversionBegan, ConversionEvent, Reporter, WaitingForAnother, WritingContinues
from calibration.measurement import FailureKind
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Subject
from calibration.supervision.replies import Trouble
from calibration.supervision.workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The model that is converted."""

    name: str
    weights: str
    """Identity of its weights."""
    parameters: int
    dtype: str
    embeddings: int = 0
    """Of the parameters, those of the embedding matrix."""
    expert_parameters: int = 0
    """Of the parameters, those of routed experts."""
    layers: int = 0
    cut: str = ""
    """Rung.cut"""

    @classmethod
    def of(cls, subject: Subject) -> "Original":
        """The model that a calibration measures."""
        return cls(
            name=subject.name,
            weights=subject.weights_identity,
            parameters=subject.parameters,
            dtype=subject.dtype,
            embeddings=subject.embeddings,
            expert_parameters=subject.expert_parameters,
            layers=subject.layers,
            cut=subject.identity.cut,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One result in the store; variants may share it."""

    key: Mapping[str, str]
    expected: Estimate


def conversion(spec: LaunchSpec, original: Original, known: Sequence[Artifact]) -> Conversion:
    """Of a candidate that is converted.

    Args:
        known: what is in the store, from which the estimate is made.
    """
    return Conversion(
        key=converted_key(
            weights=original.weights,
            candidate=spec.candidate,
            converter=spec.converter,
            model=original.name,
            prepared_as=spec.variant.prepared_as,
            cut=original.cut,
        ),
        expected=estimate(
            spec.candidate.backend,
            spec.variant,
            parameters=original.parameters,
            dtype=original.dtype,
            time=spec.prepare_time,
            known=known,
            memory=spec.prepare_memory,
            embeddings=original.embeddings,
            expert_parameters=original.expert_parameters,
            layers=original.layers,
        ),
    )


def missing(candidates: Iterable[LaunchSpec], original: Original, store: ArtifactStore) -> dict[str, Estimate]:
    """The conversions that candidates lack, each once: the first candidate that needs it, and what it will take."""
    known = store.list()
    lacking: dict[tuple[tuple[str, str], ...], tuple[str, Estimate]] = {}
    for spec in candidates:
        if spec.variant.prepares:
            wanted = conversion(spec, original, known)
            if store.get(wanted.key) is None:
                lacking.setdefault(tuple(sorted(wanted.key.items())), (spec.label, wanted.expected))
    return dict(lacking.values())


def converting_s(candidates: Iterable[LaunchSpec], original: Original, store: ArtifactStore) -> float:
    """Seconds that the conversions which candidates still lack will probably take."""
    return sum(expected.seconds for expected in missing(candidates, original, store).values())


def too_large(
    candidates: Iterable[LaunchSpec], original: Original, store: ArtifactStore, memory_bytes: int
) -> dict[str, str]:
    """Labels of the candidates that lack a conversion which so much memory will not hold, and the reason of each."""
    known, reasons = store.list(), dict[str, str]()
    for spec in candidates:
        if spec.variant.prepares:
            wanted = conversion(spec, original, known)
            reason = wanted.expected.too_large_for(memory_bytes)
            if reason and store.get(wanted.key) is None:
                reasons[spec.label] = reason
    return reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Converter:
    """Converts one model for its candidates."""

    original: Original
    store: ArtifactStore
    workers: Workers
    reporter: Reporter[ConversionEvent]
    limit_s: float
    """A conversion that takes longer is given up."""
    clock: Callable[[], float]

    def convert(self, spec: LaunchSpec, log: Path, deadline: Deadline, *, waits: bool = True) -> Artifact:
        """The converted model: from the store, or made by a worker.

        Args:
            log: takes what the worker prints.
            waits: for another process that makes the same.

        Raises:
            GivenUp: it failed, or the deadline came first; or it was not begun, since memory will not hold it.
        """
        wanted = conversion(spec, self.original, self.store.list())
        reason = wanted.expected.too_large_for(self.workers.subject.memory_limit_bytes)
        if reason and self.store.get(wanted.key) is None:
            message = f"{reason} (--again tries anew)"
            raise GivenUp("prepare", Trouble(kind=FailureKind.OUT_OF_MEMORY, message=message))

        def report_progress(elapsed_s: float, written_bytes: int) -> None:
            self.reporter.report(
                WritingContinues(
                    what="converted model", expected=wanted.expected, elapsed_s=elapsed_s, written_bytes=written_bytes
                )
            )

        def build(destination: Path) -> Watched:
            self.reporter.report(ConversionBegan(candidate=spec.label, expected=wanted.expected))
            with (
                Watch(destination, report_progress, self.clock),
                self.workers.opened(spec, log, deadline, "prepare") as worker,
            ):
                deadline.ask(worker, "prepare", self.limit_s, "prepare", destination=str(destination))
            # What the worker printed so far is the conversion's: the worker that measures begins after it.
            shutil.copyfile(log, destination.parent / LOG)
            return Watched(
                peak_memory_bytes=worker.peak_unmapped_bytes,
                expected_memory_bytes=wanted.expected.memory_by_facts_bytes,
            )

        try:
            return self.store.make(
                wanted.key,
                build,
                what="the conversion",
                needed_bytes=wanted.expected.needed_bytes,
                waiting=lambda: self.reporter.report(WaitingForAnother(doing="converts the same")),
                patience_s=deadline.left_s() if waits else 0.0,
            )
        except ArtifactError as error:
            mend = f" ({error.mend}; --again tries anew)" if error.mend else ""
            raise GivenUp("prepare", Trouble(kind=FailureKind.REFUSED, message=error.message + mend)) from error
        except TimeoutError as error:
            message = "another calibration was still converting the same"
            trouble = Trouble(kind=FailureKind.TIMED_OUT, message=message, at_deadline=True)
            raise GivenUp("prepare", trouble) from error
