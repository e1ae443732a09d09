"""A pick for a load: by launches of the candidates as servers under it, or under loads around it."""

from collections.abc import Mapping, Sequence

from calibration.load.load import Load
from calibration.measurement import OutputVerdict
from calibration.workload import Workload
from selector.answer import Source
from selector.choice.candidates import Candidates
from selector.choice.picked import Pick
from selector.question import Known, Question
from selector.served.evidence import ServedRecord
from selector.served.ranking import rank_served, tied_served


def pick_by_load(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """The best of those that took the load as servers, or loads with the same lengths around it, or of a trace another
    part; None for a batch.
    """
    match question.demand.use:
        case Workload():
            return None
        case Load() as asked:
            evidence = known.served()
            ways = ((evidence.measured, Source.MEASURED), (evidence.stale, Source.STALE))
            records = [*evidence.measured.values(), *evidence.stale.values()]

            def of(load: Load) -> Pick | None:
                picks = (_best_under(question, candidates, known, load, *way) for way in ways)
                return next((picked for picked in picks if picked is not None), None)

            return of(asked) or next((of(part) for part in _other_parts(question, asked, records)), None)


def _other_parts(question: Question, load: Load, records: Sequence[ServedRecord]) -> list[Load]:
    """Of a trace the longest other part that was measured, if there is one."""
    replay = question.demand.replay_of(load)
    if replay is None:
        return []
    measured = {point.load for record in records for launch in record.launches for point in launch.points}
    part = replay.longest_measured(measured - {load})
    return [] if part is None else [part]


def _best_under(
    question: Question,
    candidates: Candidates,
    known: Known,
    load: Load,
    records: Mapping[str, ServedRecord],
    source: Source,
) -> Pick | None:
    demand, kind = question.demand, question.host.device.kind
    able = [label for label in candidates.legal if label in records and not known.evidence.answers_wrong(label)]
    compared = [records[label] for label in able if records[label].agreement.verdict is not OutputVerdict.WRONG]
    allowed = [record for record in compared if record.candidate.label in candidates.allowed]
    choice = next(iter(rank_served(allowed, load, demand, device_kind=kind)), None)
    if choice is None:
        return None
    ranking = rank_served(compared, load, demand, device_kind=kind)
    first = next(one for one in ranking if one.candidate == choice.candidate)
    others = [one for one in ranking if one is not first]
    return Pick(
        label=choice.candidate.label,
        source=source,
        served=(first, *others),
        tie=tied_served((first, *others), demand.objective, device_kind=kind),
        measured_at=max(launch.started_at for record in compared for launch in record.launches),
    )
