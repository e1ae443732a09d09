"""Candidates: the variants that may answer, of all that were judged."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from calibration.load.load import STANDARD
from calibration.measurement import Candidate, Unserved
from calibration.registry import find
from selector.choice.refusals import all_wrong, refusal
from selector.evidence.evidence import Evidence
from selector.question import Known, Question
from selector.rules.judge import Reason, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The variants that may answer a question, by label, in the static order."""

    verdicts: tuple[Verdict, ...]
    """Of every variant of every backend."""
    legal: Mapping[str, Candidate]
    """What runs here and is not left out: what the answer is compared with."""
    allowed: Mapping[str, Candidate]
    """Those of them that the user's choice of backends names: one of these is the answer."""


def find_candidates(question: Question, known: Known) -> Candidates:
    """Sort the verdicts by what they mean for an answer.

    Raises:
        IllegalBackend: nothing that the user named is legal.
        NoLegalBackend: nothing is legal, or all that is answered wrong here. What is to be served must be right as it
            was served, too.
    """
    demand, here = question.demand, known.evidence
    verdicts = known.verdicts
    if demand.max_kl is not None:
        verdicts = tuple(_bounded(verdict, here, demand.max_kl) for verdict in verdicts)
    if question.to_serve and (wrong := known.served().wrong):
        verdicts = tuple(_as_served(verdict, wrong, question) for verdict in verdicts)
    legal = {v.candidate.label: v.candidate for v in verdicts if v.legal and not v.left_out}
    allowed = {label: candidate for label, candidate in legal.items() if demand.names(label)}
    if not allowed:
        raise refusal(question.spec, verdicts, demand, question.host)
    if not demand.forced and all(here.answers_wrong(label) for label in allowed):
        raise all_wrong(question.spec, verdicts, here, demand)
    return Candidates(verdicts=verdicts, legal=legal, allowed=allowed)


def _as_served(verdict: Verdict, wrong: Mapping[str, Unserved], question: Question) -> Verdict:
    """The verdict; a variant whose server answered wrong here is illegal, right as its engine may be alone."""
    failure = wrong.get(verdict.candidate.label)
    if failure is None:
        return verdict
    demand = question.demand
    asked = replace(demand, workloads=demand.loads or (STANDARD["serve"],), backends=(verdict.candidate.label,))
    again = f"{asked.command('calibrate', question.spec.name)} --again"
    text = f"needs right output as served; found wrong output as served: {failure.message}. Check it again: {again}"
    return replace(verdict, reasons=(*verdict.reasons, Reason(rule="right_as_served", text=text, mend=again)))


def _bounded(verdict: Verdict, here: Evidence, max_kl: float) -> Verdict:
    """The verdict; a lossy variant is left out unless its divergence was measured here and is at most `max_kl`."""
    label, candidate = verdict.candidate.label, verdict.candidate
    if not verdict.legal or verdict.left_out or not find(candidate.backend).variant(candidate.variant).lossy:
        return verdict
    record = here.measured.get(label) or here.stale.get(label)
    kl = record.agreement.kl if record else None
    if kl is None:
        return replace(verdict, left_out=f"lossy, and its divergence is not known (--max-kl {max_kl:g})")
    return verdict if kl <= max_kl else replace(verdict, left_out=f"diverges by {kl:.2g} nats (--max-kl {max_kl:g})")
