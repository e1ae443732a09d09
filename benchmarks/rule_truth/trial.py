"""A trial: one case in one candidate, whatever the rules say: convert, load, check against the reference, generate."""

import dataclasses
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rule_truth.cases.cases import Case
from benchmarks.rule_truth.cases.checkpoints import Written
from benchmarks.rule_truth.truth import Trial
from benchmarks.rule_truth.warm import Pool, WarmSession
from calibration.check.agreement import Answers
from calibration.conversion.store import ArtifactStore
from calibration.errors import AutobackendError
from calibration.events import ReferenceFailed, Silent
from calibration.launch.checker import Checker
from calibration.launch.launcher import Launcher
from calibration.launch.session import Session
from calibration.measurement import Candidate, Check, Failure, FailureKind, OutputVerdict
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec, Limits
from calibration.workload import Workload
from selector.host.spec import HostSpec
from selector.planning.plan import Plan, launch_spec_of, plan
from selector.planning.subject import reference_for, subject_of

WORKLOAD = Workload(prompt_tokens=96, output_tokens=8, batch=2)
"""What a case is judged and checked for: the check's longest prompt and its batch."""
LIMITS = Limits(prepare_s=180.0, load_s=90.0, sample_s=90.0)
MOST_BYTES = 4 << 30
"""A worker with a small model that holds more is ended: an engine and a converter without a model hold 1 GiB."""
NOT_THE_ENGINE = frozenset({"python", "threads", "affinity"})
"""Of environment_of: what says nothing about whether an output is right."""
_VERDICTS = {OutputVerdict.RIGHT: "right", OutputVerdict.LOSSY: "lossy", OutputVerdict.WRONG: "wrong output"}


class _Listener(Silent):
    """Keeps why the reference failed."""

    def __init__(self) -> None:
        self.message = ""

    def report(self, event: object, /) -> None:
        if isinstance(event, ReferenceFailed):
            self.message = event.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A case that is on the disk, as the selector reads it."""

    case: Case
    written: Written
    planned: Plan
    """Of the case."""
    plain: Plan
    """Of what it stands for; of an unquantised case itself."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """Where cases are tried."""

    host: HostSpec
    build: Path
    """Scratch, and the references, which are kept."""
    fresh: bool = False
    """Every trial in workers of its own."""
    pool: Pool = field(default_factory=Pool)
    _references: dict[str, Answers | str] = field(default_factory=dict)
    """By case digest: the answers, or why there are none."""

    def exhibit(self, case: Case, written: Written) -> Exhibit:
        """The case as the selector reads it.

        Raises:
            ModelError: it cannot.
        """
        planned = self._plan(written.place)
        plain = self._plan(written.stands_for) if written.stands_for else planned
        return Exhibit(case=case, written=written, planned=planned, plain=plain)

    def clear(self) -> None:
        """End the workers and delete the conversions."""
        self.pool.end()
        shutil.rmtree(self._converted, ignore_errors=True)

    def versions(self, candidate: Candidate, exhibit: Exhibit) -> dict[str, str]:
        """Of the engine and of what converts for it: part of the key of a trial."""
        spec = launch_spec_of(candidate, self.host, exhibit.planned.spec)
        named = {name: version for name, version in spec.environment.items() if name not in NOT_THE_ENGINE}
        return {**named, **({"converter": spec.converter} if spec.variant.prepares else {})}

    def try_out(self, exhibit: Exhibit, candidate: Candidate, *, legal: bool) -> Trial:
        """Convert, load and check.

        What fails otherwise than by a refusal, and what fails though the rules promise it, is tried again in workers
        that loaded nothing else: only then it counts.
        """
        trial = self._try(exhibit, candidate, fresh=self.fresh)
        if trial.fresh or trial.works or trial.verdict == "unchecked":
            return trial
        if trial.verdict == FailureKind.REFUSED and not legal:
            return trial
        return self._try(exhibit, candidate, fresh=True)

    @property
    def _converted(self) -> Path:
        return self.build / f"converted-{os.getpid()}"

    def _plan(self, place: Path) -> Plan:
        return plan(place, workloads=[WORKLOAD.label], allow_lossy=True, host=self.host)

    def _try(self, exhibit: Exhibit, candidate: Candidate, *, fresh: bool) -> Trial:
        began = time.monotonic()
        scratch = Path(tempfile.mkdtemp(prefix="trial-", dir=self.build))
        try:
            answers = self._reference(exhibit, scratch)
            known = answers if isinstance(answers, Answers) else None
            # Two variants may share a conversion, but one that a worker of its own is to judge must be its own.
            store = ArtifactStore(scratch / "artifacts" if fresh else self._converted)
            session = self._session(exhibit.planned, store, scratch, fresh=fresh)
            launcher = Launcher(
                session=session, checker=Checker(session=session, make_reference=lambda _session: known)
            )
            spec = launch_spec_of(candidate, self.host, exhibit.planned.spec)
            verdict, stage, message = _judged(launcher, spec)
            if verdict == "unchecked" and isinstance(answers, str):
                message = f"no reference: {answers}"
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return Trial(
            case=exhibit.case.name,
            config=exhibit.case.digest,
            candidate=candidate.label,
            versions=self.versions(candidate, exhibit),
            verdict=verdict,
            stage=stage,
            message=" ".join(message.replace(str(self.build), "...").split())[:300],
            fresh=fresh,
            seconds=time.monotonic() - began,
        )

    def _session(self, planned: Plan, store: ArtifactStore, folder: Path, *, fresh: bool, **changes: Any) -> Session:
        subject = subject_of(planned, store, Silent())
        # Threads of a small model wait for each other most of the time, and long where other programs run.
        subject = dataclasses.replace(
            subject, threads=1, memory_limit_bytes=min(subject.memory_limit_bytes, MOST_BYTES)
        )
        shared: dict[str, Any] = {
            "calibration_id": "rule truth",
            "subject": subject,
            "cells": (WORKLOAD,),
            "store": store,
            "folder": folder,
            "reporter": Silent(),
            "limits": LIMITS,
            "deadline": Deadline(None, time.monotonic),
            **changes,
        }
        return Session(**shared) if fresh else WarmSession(**shared, pool=self.pool)

    def _reference(self, exhibit: Exhibit, scratch: Path) -> Answers | str:
        """transformers' answers, computed once for a case; or why there are none."""
        digest = exhibit.case.digest
        if digest not in self._references:
            store, listener = ArtifactStore(self.build / "references"), _Listener()
            session = self._session(exhibit.plain, store, scratch, fresh=self.fresh, reporter=listener)
            answers = reference_for(exhibit.plain)(session)
            self._references[digest] = answers or listener.message or "transformers gives no scores"
        return self._references[digest]


def _judged(launcher: Launcher, spec: LaunchSpec) -> tuple[str, str, str]:
    """Verdict, stage and message of a launch."""
    try:
        outcome = launcher.check(spec, 1).outcome
    except AutobackendError as error:
        return str(FailureKind.REFUSED), "prepare", error.message
    match outcome:
        case Failure():
            return str(outcome.kind), outcome.stage, outcome.message
        case Check(agreement=agreement):
            return _VERDICTS.get(agreement.verdict, "unchecked"), "", agreement.detail
    raise AssertionError(f"a check without a deadline has an outcome; found {type(outcome).__name__}")
