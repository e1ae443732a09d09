"""Pick: which candidate answers, and by what evidence."""

from collections.abc import Mapping
from dataclasses import dataclass

from selector.answer import Source, Stale
from selector.choice.candidates import Candidates
from selector.comparison import tied
from selector.context import Known, Question
from selector.evidence import Elsewhere, Evidence
from selector.ranking import Ranked, Record, e2e_s, rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The candidate that answers, and what it was chosen by."""

    label: str
    source: Source
    """Where the evidence comes from; RULES where there is none."""
    origin: Elsewhere | None = None
    """What it was transferred from."""
    ranking: tuple[Ranked, ...] = ()
    ranked: Ranked | None = None
    """Its own place there; None where it was chosen by the static order."""
    tie: tuple[str, ...] = ()
    """Labels of those that cannot be told from it."""
    stale: tuple[Stale, ...] = ()
    """What was measured with other versions, whether it answers or not."""
    measured_at: float | None = None
    """Unix time of the newest launch behind the ranking."""


def pick(question: Question, candidates: Candidates, known: Known) -> Pick:
    """The best of the allowed candidates by the best evidence there is, else the first of the static order."""
    demand, here = question.demand, known.evidence
    records, source, origin = _comparable(candidates, known)
    ranking = rank(records.values(), demand, device_kind=question.host.device.kind)
    stale = tuple(
        Stale(candidate=candidate, differences=record.differences, e2e_s=e2e_s(record, demand.workload))
        for label, candidate in candidates.legal.items()
        if (record := here.stale.get(label))
    )
    best = next((ranked for ranked in ranking if ranked.candidate.label in candidates.allowed), None)
    if best is not None:
        return Pick(
            label=best.candidate.label,
            source=source,
            origin=origin,
            ranking=ranking,
            ranked=best,
            tie=tied(best, (ranked for ranked in ranking if ranked is not best), demand.objective),
            measured_at=max(record.last.started_at for record in records.values()),
            stale=stale,
        )
    return Pick(label=_first(candidates, here), source=Source.RULES, stale=stale)


def _comparable(candidates: Candidates, known: Known) -> tuple[Mapping[str, Record], Source, Elsewhere | None]:
    """The records that compare with each other, of the best kind that says something about an allowed candidate.

    A candidate that was measured with other versions never competes with one measured with today's: it is in `stale`.
    """
    here = known.evidence
    for records, source in ((here.measured, Source.MEASURED), (here.stale, Source.STALE)):
        if candidates.allowed.keys() & records.keys():
            return {label: records[label] for label in candidates.legal if label in records}, source, None
    usable = [label for label in candidates.legal if label not in here.failed or label in here.outdated]
    for other in known.elsewhere():
        if candidates.allowed.keys() & other.records.keys() & set(usable):
            transferred = {label: other.records[label] for label in usable if label in other.records}
            return transferred, Source.TRANSFERRED, other
    return {}, Source.RULES, None


def _first(candidates: Candidates, here: Evidence) -> str:
    """The first of the static order that never failed here, else only with other versions, else that answers right."""
    labels = list(candidates.allowed)
    fresh = (label for label in labels if label not in here.failed)
    changed = (label for label in labels if label in here.outdated)
    right = (label for label in labels if not here.answers_wrong(label))
    return next(fresh, None) or next(changed, None) or next(right, labels[0])
