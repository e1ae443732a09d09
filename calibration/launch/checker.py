"""Whether a candidate's output is right: its loaded worker and the reference answer the same prompts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from calibration.check.agreement import NEW_TOKENS, PROMPT_TOKENS, TOLD_BY_SCORES, Answers, compare, groups
from calibration.check.tolerance import precision_class
from calibration.events import CheckBegan, CheckEnded, ReferenceBegan
from calibration.launch.session import Session
from calibration.measurement import Agreement, OutputVerdict
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec
from calibration.supervision.supervisor import Worker

MakeReference = Callable[[Session], Answers | None]
"""Computes the reference's answers, or finds them; None where there are none: outputs then stay unchecked."""

SHORT = len(PROMPT_TOKENS)
"""Number of short prompts of the check."""


def no_reference(session: Session) -> None:
    """A calibration without a correctness check."""


@dataclass(slots=True, kw_only=True)
class Checker:
    """Checks each candidate of a calibration once.

    Args:
        agreements: candidate label: what a check has found, those of earlier launches included.
    """

    session: Session
    make_reference: MakeReference
    agreements: dict[str, Agreement] = field(default_factory=dict)
    seconds: float = 0.0
    """Spent on the reference and on checks so far."""
    _reference: Answers | None = None
    _reference_made: bool = False

    def get_ready(self, spec: LaunchSpec) -> None:
        """Have the reference's answers, where this candidate is the first that needs them."""
        if spec.label not in self.agreements:
            self.reference()

    def reference(self) -> Answers | None:
        """The reference's answers, computed when they are first asked for; None where they cannot be."""
        if not self._reference_made:
            began = self.session.clock()
            self.session.reporter.report(ReferenceBegan())
            self._reference_made = True
            self._reference = self.make_reference(self.session)
            self.seconds += self.session.clock() - began
        return self._reference

    def precision_of(self, spec: LaunchSpec) -> str:
        """The key of TOLERANCES by which a candidate is judged."""
        subject, variant = self.session.subject, spec.variant
        return precision_class(
            variant.precision,
            subject.dtype,
            lossy=variant.lossy,
            quantised=subject.identity.quant != "none" and variant.precision == "model",
            overflows=spec.overflows,
        )

    def check(self, spec: LaunchSpec, worker: Worker, deadline: Deadline) -> Agreement:
        """The verdict on the output of a loaded worker, or that of its candidate's first launch.

        Raises:
            GivenUp: the worker failed.
        """
        known = self.agreements.get(spec.label)
        if known is not None:
            return known
        if self._reference is None:
            return Agreement(verdict=OutputVerdict.UNCHECKED, detail="no reference could be computed here")
        self.session.reporter.report(CheckBegan(candidate=spec.label))
        began = self.session.clock()
        agreement = self._compare(spec, worker, deadline, self._reference)
        self.agreements[spec.label] = agreement
        self.seconds += self.session.clock() - began
        self.session.reporter.report(CheckEnded(candidate=spec.label, agreement=agreement))
        return agreement

    def _compare(self, spec: LaunchSpec, worker: Worker, deadline: Deadline, reference: Answers) -> Agreement:
        rows_file = self.session.folder / "candidate.f32"
        prompts = self.session.check_prompts()
        reply = deadline.ask(
            worker,
            "check",
            self.session.limits.sample_s,
            "answer",
            prompts=prompts,
            groups=[list(group) for group in groups(len(prompts) > SHORT)],
            new_tokens=NEW_TOKENS,
            continuations=[list(reference.path(i)[:-1]) for i in range(len(prompts))],
            rows_file=str(rows_file),
            long_prompts=list(range(SHORT, len(prompts))),
            scored_prompts=list(range(TOLD_BY_SCORES, len(prompts))),
        )
        answers = Answers.of(reply.fields["tokens"], rows_file, reply.fields["rows"])
        mixture = self.session.subject.experts > 0
        agreement = compare(reference, answers, self.precision_of(spec), mixture=mixture)
        rows_file.unlink(missing_ok=True)
        return agreement
