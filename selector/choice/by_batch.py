"""A pick for a static batch: by each kind of evidence that there may be."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from selector.answer import Source
from selector.choice.candidates import Candidates
from selector.choice.expectation import best_of, expect
from selector.choice.picked import Pick
from selector.evidence.comparison import tied
from selector.evidence.evidence import Elsewhere, Evidence
from selector.evidence.ranking import Record, rank
from selector.question import Known, Question


def pick_measured(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """The best of those whose whole model was measured; None where one that was measured on layers is better.

    A candidate that was measured with other versions never competes with one measured with today's: it is in `stale`.
    """
    here = known.evidence
    if not candidates.allowed.keys() & here.measured.keys():
        return None
    picked = _by_ranking(question, candidates, here.measured, Source.MEASURED)
    shallow = candidates.allowed.keys() & here.layers.keys() - here.measured.keys() - here.failed.keys()
    rivals = [label for label in shallow if picked and not _slower_on_layers(question, here, label, picked.label)]
    if not picked or not rivals:
        return picked
    prediction = expect(question, known, [label for label in candidates.allowed if label in {picked.label, *rivals}])
    best = best_of(question, known, prediction, candidates.allowed) if prediction else None
    return None if best and best.candidate in rivals else picked


def pick_on_layers(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """The best of those that were measured on a few layers, by what these launches let one expect of the whole model.

    Where that cannot be predicted, the launches on the deepest rung that most have reached rank them.
    """
    here = known.evidence
    usable = [label for label in candidates.legal if label in here.layers and label not in here.failed]
    if not candidates.allowed.keys() & set(usable):
        return None
    deepest = {label: here.layers[label][0] for label in usable}
    newest = max(depth.record.last.started_at for depth in deepest.values())
    launched = [label for label in candidates.legal if label in usable or label in here.measured]
    prediction = expect(question, known, launched)
    best = best_of(question, known, prediction, candidates.allowed) if prediction else None
    whole = [here.measured[label] for label in launched if label in here.measured]
    ranking = rank(whole, question.demand, device_kind=question.host.device.kind)
    if best is not None:
        return Pick(
            label=best.candidate, source=Source.LAYERS, ranking=ranking, prediction=prediction, measured_at=newest
        )
    rungs = [depth.rung for label, depth in deepest.items() if label in candidates.allowed]
    rung = max(rungs, key=lambda rung: (rungs.count(rung), rung.layers))
    alike = [depth.record for depth in deepest.values() if depth.rung == rung]
    order = rank(alike, question.demand, device_kind=question.host.device.kind)
    first = next((ranked for ranked in order if ranked.candidate.label in candidates.allowed), None)
    if first is None:
        return None
    return Pick(label=first.candidate.label, source=Source.LAYERS, ranking=ranking, measured_at=newest)


def _slower_on_layers(question: Question, here: Evidence, label: str, leader: str) -> bool:
    """Whether a candidate is slower than another on the deepest rung that both were launched on.

    Eight candidates of two models had the same winner on a twelfth, a tenth and a quarter of their layers as on all.
    """
    leaders = {depth.rung: depth.record for depth in here.layers.get(leader, ())}
    shared = next((depth for depth in here.layers[label] if depth.rung in leaders), None)
    if shared is None:
        return False
    both = rank([leaders[shared.rung], shared.record], question.demand, device_kind=question.host.device.kind)
    return len(both) == 2 and both[0].candidate.label == leader


def pick_stale(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """The best of those that were measured with other versions, all of them compared."""
    return _by_ranking(question, candidates, known.evidence.stale, Source.STALE)


def pick_same_shape_elsewhere(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """From another host with this device, on which this shape was measured."""
    alike = (other for other in known.elsewhere() if other.identity.fingerprint == question.identity.fingerprint)
    return _transferred(question, candidates, known, alike)


def pick_predicted(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """By what other hosts and models let one expect of those that did not fail here, or only with other versions."""
    here = known.evidence
    fresh = [label for label in candidates.legal if label not in here.failed]
    changed = [label for label in candidates.legal if label in here.outdated]
    labels = fresh if candidates.allowed.keys() & set(fresh) else changed
    prediction = expect(question, known, labels)
    best = best_of(question, known, prediction, candidates.allowed) if prediction else None
    return Pick(label=best.candidate, source=Source.PREDICTED, prediction=prediction) if best else None


def pick_another_size(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """From another size of the architecture on such a device, where nothing can be predicted."""
    return _transferred(question, candidates, known, known.elsewhere())


def _transferred(question: Question, candidates: Candidates, known: Known, others: Iterable[Elsewhere]) -> Pick | None:
    here = known.evidence
    usable = {label for label in candidates.legal if label not in here.failed or label in here.outdated}
    for other in others:
        records = {label: record for label, record in other.records.items() if label in usable}
        picked = _by_ranking(question, candidates, records, Source.TRANSFERRED)
        if picked is not None:
            return replace(picked, origin=other)
    return None


def _by_ranking(
    question: Question, candidates: Candidates, records: Mapping[str, Record], source: Source
) -> Pick | None:
    """The best of the allowed candidates by records that compare with each other; None where none is allowed."""
    compared = [records[label] for label in candidates.legal if label in records]
    demand = question.demand
    ranking = rank(compared, demand, device_kind=question.host.device.kind)
    best = next((ranked for ranked in ranking if ranked.candidate.label in candidates.allowed), None)
    if best is None:
        return None
    return Pick(
        label=best.candidate.label,
        source=source,
        ranking=ranking,
        ranked=best,
        tie=tied(best, (ranked for ranked in ranking if ranked is not best), demand.objective),
        measured_at=max(record.last.started_at for record in compared),
    )
