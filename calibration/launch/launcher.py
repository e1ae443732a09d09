"""One launch: a candidate's process from start to end, as an Outcome."""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.backend import Job
from calibration.check.agreement import (
    GROUPS,
    NEW_TOKENS,
    PROMPT_TOKENS,
    TOLD_BY_SCORES,
    Answers,
    compare,
    fixed_prompts,
    groups,
    long_prompt,
)
from calibration.check.tolerance import precision_class
from calibration.conversion import convert as conversion
from calibration.conversion import side_by_side as conversions
from calibration.conversion.store import Artifact, ArtifactStore
from calibration.environments.versions import POLICY
from calibration.launch.timing import time_cell
from calibration.measurement import (
    Agreement,
    Cell,
    Failure,
    FailureKind,
    Measurement,
    Outcome,
    OutputVerdict,
)
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import Events, LaunchSpec, Limits, Skipped, Subject
from calibration.supervision.supervisor import Trouble, Worker
from calibration.worker.opening import Opening
from calibration.workload import Workload

SHORT = len(PROMPT_TOKENS)
"""Number of short prompts of the check."""
LONG_SHARE = 0.5
"""Tokens of the check's long prompt, as a share of the prompt tokens of all cells: it is computed twice in one launch,
they are three times and more in each."""


@dataclass(slots=True, kw_only=True)
class Launcher:
    """Launches the candidates of one calibration."""

    subject: Subject
    cells: tuple[Workload, ...]
    store: ArtifactStore
    folder: Path
    """Logs and score files; gone after the calibration."""
    reporter: Events
    limits: Limits
    make_reference: "Callable[[Launcher], Answers | None]"
    clock: Callable[[], float] = time.monotonic
    agreements: dict[str, Agreement] = field(default_factory=dict)
    """Candidate label: the verdict of an earlier launch; an output is checked once."""
    check_s: float = 0.0
    """Seconds spent on the reference and on correctness checks so far."""
    once_s: float = 0.0
    """Seconds spent so far on what later launches need not do again: conversions and the reference."""
    deadline: float | None = None
    """The budget's, on the clock: the reference, too, ends by then."""
    _reference: Answers | None = None
    _reference_made: bool = False

    def launch(
        self,
        entry: LaunchSpec,
        round_number: int,
        calibration_id: str,
        deadline: float | None,
        share_s: float | None = None,
        promising: Callable[[Sequence[Cell]], bool] = lambda _cells: False,
        upcoming: Sequence[LaunchSpec] = (),
    ) -> Outcome | Skipped:
        """Prepare, load, check and time a candidate.

        Args:
            deadline: the budget's, on the clock.
            share_s: seconds from the load on after which it is given up.
            promising: told the cells so far, whether the next one may take longer than that.
            upcoming: who will be launched after it; where it must be converted, so are the next ones beside it.

        Returns:
            The measurement, or the failure with its kind, its stage and the end of the log. Where its share or the
            budget's deadline cut it off: a measurement of the cells until then, Skipped where there is none.
        """
        run_id = uuid.uuid4().hex
        head: dict[str, Any] = {
            "run_id": run_id,
            "calibration_id": calibration_id,
            "round": round_number,
            "candidate": entry.candidate,
            "identity": self.subject.identity,
            "model": self.subject.name,
            "environment": dict(entry.environment),
            "policy": POLICY,
            "started_at": time.time(),
        }
        log = self.folder / f"{run_id}.log"
        log.touch()
        step = whole = Deadline(deadline, self.clock)
        artifact: Artifact | None = None
        try:
            if entry.variant.prepares:
                with conversions.side_by_side(self, entry, upcoming, step):
                    artifact = conversion.made(self, entry, log, step)
            if entry.label not in self.agreements and not self._reference_made:
                self._make_reference()
                if step.past_deadline():
                    return Skipped()
            if share_s is not None:
                ends = self.clock() + share_s
                step = Deadline(ends if deadline is None else min(ends, deadline), self.clock)
            with self.worker(entry, log) as worker:
                return self._measure(entry, worker, lambda cells: whole if promising(cells) else step, head, artifact)
        except GivenUp as given_up:
            if given_up.trouble.at_deadline and step.past_deadline():
                return Skipped()
            tail = log.read_text(errors="replace")[-4000:].strip()
            trouble = given_up.trouble
            return Failure(**head, kind=trouble.kind, stage=given_up.stage, message=trouble.message, log_tail=tail)

    @property
    def threads(self) -> int:
        return self.subject.threads

    @property
    def memory_limit_bytes(self) -> int:
        return self.subject.memory_limit_bytes

    @property
    def original(self) -> conversion.Original:
        """What candidates convert."""
        subject = self.subject
        return conversion.Original(
            name=subject.name,
            weights=subject.weights_identity,
            parameters=subject.parameters,
            dtype=subject.dtype,
        )

    def converting_s(self, entries: Iterable[LaunchSpec]) -> float:
        """Seconds that the conversions that these candidates still lack will probably take."""
        return sum(e.seconds for e in conversion.missing(entries, self.original, self.store).values())

    def worker(self, entry: LaunchSpec, log: Path) -> Worker:
        """A fresh worker in the candidate's interpreter.

        Raises:
            GivenUp: the interpreter cannot be started.
        """
        threads = str(self.subject.threads)
        variables = {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        try:
            return Worker(
                entry.python,
                log=log,
                watch_gpu=self.subject.device == "cuda",
                memory_limit_bytes=self.subject.memory_limit_bytes,
                environment={**variables, **entry.variables},
            )
        except OSError as error:
            trouble = Trouble(kind=FailureKind.REFUSED, message=f"{entry.python} cannot be started: {error.strerror}")
            raise GivenUp("load", trouble) from error

    def opened(self, entry: LaunchSpec, worker: Worker, artifact: Artifact | None, step: Deadline, stage: str) -> None:
        """Tell a worker who it is."""
        longest = max((c.context_tokens for c in self.cells), default=0)
        job = Job(
            model_dir=entry.model_dir or self.subject.model_dir,
            variant=entry.variant,
            artifact_dir=artifact.path if artifact else None,
            dtype=self.subject.dtype,
            vocab_size=self.subject.vocab_size,
            device=entry.device or self.subject.device,
            threads=self.subject.threads,
            cpus=self.subject.cpus,
            max_context_tokens=max(longest, *map(len, self.check_prompts())) + NEW_TOKENS,
            max_batch=max([c.batch for c in self.cells] + [len(g) for g in GROUPS]),
            trust_remote_code=self.subject.trust_remote_code,
            tensor_parallel=self.subject.tensor_parallel,
        )
        opening = Opening(backend=entry.candidate.backend, job=job, source=entry.source)
        step.ask(worker, stage, 60, "open", **opening.request())

    def answers(
        self, worker: Worker, step: Deadline, continuations: list[list[int]] | None, rows_file: Path, timeout_s: float
    ) -> Answers:
        """Let a loaded worker answer the fixed prompts.

        Args:
            continuations: the reference's paths without their last tokens; None where the worker is the reference.
        """
        asked = self.check_prompts()
        request = {"prompts": asked, "new_tokens": NEW_TOKENS, "rows_file": str(rows_file)}
        if continuations is None:
            told = step.ask(worker, "check", timeout_s, "refer", **request).fields
            return Answers.of_reference(told["paths"], rows_file, told["rows"])
        told = step.ask(
            worker,
            "check",
            timeout_s,
            "answer",
            **request,
            groups=[list(g) for g in groups(len(asked) > SHORT)],
            continuations=continuations,
            once=list(range(SHORT, len(asked))),
            told_by_scores=list(range(TOLD_BY_SCORES, len(asked))),
        ).fields
        return Answers.of(told["tokens"], rows_file, told["rows"])

    def check_prompts(self) -> list[list[int]]:
        """The prompts of the correctness check: the long one costs a part of what the cells do."""
        longest = max((c.context_tokens for c in self.cells), default=1 << 30)
        timed = sum(c.prompt_tokens * c.batch for c in self.cells)
        subject = self.subject
        long = long_prompt(int(timed * LONG_SHARE), longest, subject.max_position, subject.sliding_window)
        room = min(max(longest, 2 * NEW_TOKENS, long + NEW_TOKENS), subject.max_position or 1 << 30)
        return fixed_prompts(subject.vocab_size, room, long)

    def _measure(
        self,
        entry: LaunchSpec,
        worker: Worker,
        step_after: Callable[[Sequence[Cell]], Deadline],
        head: dict[str, Any],
        artifact: Artifact | None,
    ) -> Outcome:
        """Load, check and time, in an own worker.

        Args:
            step_after: the time that is left for what comes after these cells.
        """
        label, step = entry.label, step_after(())
        self.opened(entry, worker, artifact, step, "load")
        self.reporter.event("load", candidate=label)
        loaded = step.ask(worker, "load", self.limits.load_s, "load")
        self.reporter.event("loaded", candidate=label, seconds=loaded.fields["seconds"])
        agreement = self._check(entry, worker, step)
        if agreement.verdict is OutputVerdict.WRONG:
            raise GivenUp("check", Trouble(kind=FailureKind.WRONG_OUTPUT, message=agreement.detail))
        cells: list[Cell] = []
        try:
            for number, workload in enumerate(self.cells, start=1):
                self.reporter.event("cell", candidate=label, number=number, of=len(self.cells), workload=workload)
                step = step_after(cells)
                cells.append(time_cell(worker, step, workload, head["run_id"], self.limits.sample_s, cells))
            step.ask(worker, "close", 30, "close")
        except GivenUp as given_up:
            # What was timed when the budget ended is as good as ever.
            if not (cells and given_up.trouble.at_deadline and step.past_deadline()):
                raise
        return Measurement(
            **head,
            cells=tuple(cells),
            load_s=loaded.fields["seconds"],
            peak_memory_bytes=worker.peak_memory_bytes,
            gpu_memory_bytes=worker.peak_gpu_memory_bytes or None,
            agreement=agreement,
            prepare_s=artifact.seconds if artifact else None,
            artifact_bytes=artifact.bytes if artifact else None,
        )

    def _check(self, entry: LaunchSpec, worker: Worker, step: Deadline) -> Agreement:
        """The verdict on the output; a candidate is checked in its first launch only."""
        known = self.agreements.get(entry.label)
        if known is not None:
            return known
        if self._reference is None:
            return Agreement(verdict=OutputVerdict.UNCHECKED, detail="no reference could be computed here")
        self.reporter.event("checking", candidate=entry.label)
        began = self.clock()
        rows_file = self.folder / "candidate.f32"
        along = [list(self._reference.path(i)[:-1]) for i in range(len(self.check_prompts()))]
        found = self.answers(worker, step, along, rows_file, self.limits.sample_s)
        variant = entry.variant
        as_is = self.subject.identity.quant != "none" and variant.precision == "model"
        precision = precision_class(
            variant.precision, self.subject.dtype, lossy=variant.lossy, quantised=as_is, overflows=entry.overflows
        )
        agreement = compare(self._reference, found, precision)
        self.agreements[entry.label] = agreement
        rows_file.unlink(missing_ok=True)
        self.check_s += self.clock() - began
        self.reporter.event("check", candidate=entry.label, agreement=agreement)
        return agreement

    def _make_reference(self) -> None:
        began = self.clock()
        self.reporter.event("reference")
        self._reference_made = True
        self._reference = self.make_reference(self)
        self.check_s += self.clock() - began
        self.once_s += self.clock() - began


def no_reference(launcher: Launcher) -> None:
    """A calibration without a correctness check."""
