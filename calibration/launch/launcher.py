"""One launch: a candidate's process from start to end, as an Outcome."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.conversion.artifact import Artifact
from calibration.conversion.side_by_side import side_by_side
from calibration.events import CellBegan, LoadBegan, LoadEnded
from calibration.launch.checker import Checker
from calibration.launch.session import Session
from calibration.launch.timing import time_cell
from calibration.measurement import Cell, Check, Failure, FailureKind, Measurement, Outcome, OutputVerdict
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec, Skipped
from calibration.supervision.log import end_of
from calibration.supervision.replies import Trouble
from calibration.supervision.supervisor import Worker
from calibration.workload import Workload

CLOSE_S = 30.0

Promising = Callable[[Sequence[Cell]], bool]
"""Of the cells that a launch has timed so far: may it go on after its share of the budget?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A launch that is over."""

    outcome: Outcome | Skipped
    """A measurement of only some cells, or Skipped where there is none, where its share or the budget cut it short."""
    seconds: float
    once_s: float
    """Of these, spent on what later launches need not do again: conversions and the reference."""


@dataclass(slots=True, kw_only=True)
class Launcher:
    """Launches the candidates of one calibration."""

    session: Session
    checker: Checker

    def launch(
        self,
        spec: LaunchSpec,
        round_number: int,
        *,
        share_s: float | None = None,
        promising: Promising = lambda _cells: False,
        upcoming: Sequence[LaunchSpec] = (),
        worthwhile: Promising = lambda _cells: True,
    ) -> Launched:
        """Prepare, load, check and time a candidate.

        Args:
            share_s: seconds from the load on after which it is given up.
            upcoming: who will be launched after it; where it must be converted, so are the next ones beside it.
            worthwhile: whether the cells that were timed leave anything to be told by the others.

        Returns:
            The measurement, or the failure with its kind, its stage and the end of the log.
        """
        course = _Course(self.session.cells, share_s, promising, worthwhile)
        return self._launch(spec, round_number, course, upcoming)

    def check(
        self,
        spec: LaunchSpec,
        round_number: int,
        *,
        share_s: float | None = None,
        upcoming: Sequence[LaunchSpec] = (),
    ) -> Launched:
        """Prepare, load and check a candidate whose times are known.

        Returns:
            The check, or the failure.
        """
        return self._launch(spec, round_number, _Course((), share_s), upcoming)

    def _launch(
        self,
        spec: LaunchSpec,
        round_number: int,
        course: "_Course",
        upcoming: Sequence[LaunchSpec],
    ) -> Launched:
        session, run_id = self.session, uuid.uuid4().hex
        began, once_s = session.clock(), 0.0
        log = session.folder / f"{run_id}.log"
        log.touch()
        common = {"run_id": run_id, **session.begin(spec, round_number)}
        deadline = session.deadline
        try:
            try:
                artifact = self._prepare(spec, upcoming, log)
            finally:
                once_s = session.clock() - began
            deadline = session.deadline.within(course.share_s)
            outcome = self._answer(spec, course, artifact, log, deadline, common)
        except GivenUp as given_up:
            outcome = _given_up(given_up, log, deadline, common)
        return Launched(outcome=outcome, seconds=session.clock() - began, once_s=once_s)

    def _prepare(self, spec: LaunchSpec, upcoming: Sequence[LaunchSpec], log: Path) -> Artifact | None:
        """The converted model, where the candidate has one; and the reference's answers are there."""
        session, artifact = self.session, None
        if spec.variant.prepares:
            with side_by_side(session.converter, spec, upcoming, session.folder, session.deadline):
                artifact = session.converter.convert(spec, log, session.deadline)
        self.checker.get_ready(spec)
        return artifact

    def _answer(
        self,
        spec: LaunchSpec,
        course: "_Course",
        artifact: Artifact | None,
        log: Path,
        deadline: Deadline,
        common: dict[str, Any],
    ) -> Outcome | Skipped:
        """Load and check, and time the workloads, in a worker of its own."""
        session = self.session
        if session.deadline.is_past():
            return Skipped()
        with session.workers.opened(spec, log, deadline, "load", artifact.path if artifact else None) as worker:
            session.reporter.report(LoadBegan(candidate=spec.label))
            load_s = deadline.ask(worker, "load", session.limits.load_s, "load").fields["seconds"]
            session.reporter.report(LoadEnded(candidate=spec.label, seconds=load_s))
            agreement = self.checker.check(spec, worker, deadline)
            if agreement.verdict is OutputVerdict.WRONG:
                raise GivenUp("check", Trouble(kind=FailureKind.WRONG_OUTPUT, message=agreement.detail))
            cells = self._time(spec, course, worker, deadline, common["run_id"])
            answered = common | {
                "load_s": load_s,
                "peak_memory_bytes": worker.peak_memory_bytes,
                "gpu_memory_bytes": worker.peak_gpu_memory_bytes or None,
                "agreement": agreement,
                "prepare_s": artifact.seconds if artifact else None,
                "artifact_bytes": artifact.bytes if artifact else None,
            }
            return Measurement(**answered, cells=cells) if course.cells else Check(**answered)

    def _time(
        self,
        spec: LaunchSpec,
        course: "_Course",
        worker: Worker,
        share: Deadline,
        run_id: str,
    ) -> tuple[Cell, ...]:
        """The cells, or as many as were timed before the deadline, or as the others were worth their time.

        Args:
            share: the deadline of a launch that is not promising; the others have the whole budget's.
        """
        session, cells = self.session, list[Cell]()
        deadline = share
        try:
            for number, workload in enumerate(course.cells, start=1):
                if cells and not course.worthwhile(cells):
                    break
                session.reporter.report(
                    CellBegan(candidate=spec.label, number=number, of=len(course.cells), workload=workload)
                )
                deadline = session.deadline if course.promising(cells) else share
                cells.append(time_cell(worker, deadline, workload, run_id, session.limits.sample_s, cells))
            deadline.ask(worker, "close", CLOSE_S, "close")
        except GivenUp as given_up:
            # What was timed when the budget ended is as good as ever.
            if not (cells and given_up.trouble.at_deadline and deadline.is_past()):
                raise
        return tuple(cells)


@dataclass(frozen=True, slots=True)
class _Course:
    """What a launch shall time, and for how long."""

    cells: Sequence[Workload]
    """Empty: it is checked only."""
    share_s: float | None
    promising: Promising = lambda _cells: False
    worthwhile: Promising = lambda _cells: True


def _given_up(given_up: GivenUp, log: Path, deadline: Deadline, common: dict[str, Any]) -> Failure | Skipped:
    """A failure, unless it was the deadline that came first."""
    trouble = given_up.trouble
    if trouble.at_deadline and deadline.is_past():
        return Skipped()
    stage, message = given_up.stage, trouble.message
    return Failure(**common, kind=trouble.kind, stage=stage, message=message, log_tail=end_of(log))
