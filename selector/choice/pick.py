"""Pick: which candidate answers, and by what evidence."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from calibration.backend import Backend
from calibration.load.load import Load
from calibration.load.use import slots_of
from calibration.measurement import OutputVerdict
from calibration.registry import find
from calibration.workload import Workload
from selector.answer import Source, Stale
from selector.choice.candidates import Candidates
from selector.choice.expectation import best_of, expect
from selector.context import Known, Question
from selector.evidence.comparison import tied
from selector.evidence.evidence import Elsewhere, Evidence
from selector.evidence.ranking import Ranked, Record, e2e_s, rank
from selector.predict.prediction import Prediction
from selector.served.evidence import ServedRecord
from selector.served.ranking import ServedRanked, rank_served, tied_served


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
    """Its own place there; None where it was not chosen by it."""
    tie: tuple[str, ...] = ()
    """Labels of those that cannot be told from it."""
    prediction: Prediction | None = None
    """What is expected of the whole model, where that decided."""
    stale: tuple[Stale, ...] = ()
    """What was measured with other versions, whether it answers or not."""
    measured_at: float | None = None
    """Unix time of the newest launch behind the answer."""
    served: tuple[ServedRanked, ...] = ()
    """Where the answer is for a load and stands on launches under it: the candidates, the choice first."""


def pick(question: Question, candidates: Candidates, known: Known) -> Pick:
    """The best of the allowed candidates by the best evidence there is, else the first of the static order.

    What was measured here comes first: of the whole model, then on its first layers, then with other versions. Then
    the same shape on another host with this very device. A prediction comes before what another size of the
    architecture showed, since it weighs that with all else that is known: over the hosts and shapes of results/ the
    plain order of other shapes on the same host picks at 1.16 of the best, at worst 12, the same shape on other hosts
    at 1.03.
    """
    picked = _several_at_once(question, candidates, known, _found(question, candidates, known))
    here, workload = known.evidence, question.demand.workload
    stale = tuple(
        Stale(candidate=candidate, differences=record.differences, e2e_s=e2e_s(record, workload))
        for label, candidate in candidates.legal.items()
        if (record := here.stale.get(label))
    )
    return replace(picked, stale=stale)


def _found(question: Question, candidates: Candidates, known: Known) -> Pick:
    found = (finder(question, candidates, known) for finder in _FINDERS)
    static = Pick(label=_first(candidates, known.evidence), source=Source.RULES)
    return next((pick for pick in found if pick is not None), static)


def _several_at_once(question: Question, candidates: Candidates, known: Known, picked: Pick) -> Pick:
    """The pick for a load that nobody measured: engines that serve one request after another take their time for each.

    What is known of such an engine is a static batch, which it answers at once; requests that come and go are none. So
    it stays the pick only where its answers in turn take no longer than the batch takes another engine.
    """
    slots = slots_of(question.demand.use)
    if isinstance(question.demand.use, Workload) or picked.served or slots < 2 or _serves_several(picked.label):
        return picked
    several = {label: candidate for label, candidate in candidates.allowed.items() if _serves_several(label)}
    if not several:
        return picked
    other = _found(question, replace(candidates, allowed=several), known)
    if other.source is not picked.source:
        return picked
    alone_s, together_s = _alone_s(question, known, picked), _expected_s(other)
    if alone_s is not None and together_s is not None and slots * alone_s <= together_s:
        return picked
    return other


def _serves_several(label: str) -> bool:
    """Whether the engine computes requests that come and go together."""
    name, _, variant = label.partition(":")
    backend = find(name)
    brings_a_server = type(backend).own_server is not Backend.own_server
    return brings_a_server or backend.streams_type(backend.variant(variant)).batching in {"continuous", "static"}


def _alone_s(question: Question, known: Known, picked: Pick) -> float | None:
    """What the pick takes for one request."""
    alone = replace(question.demand.workload, batch=1)
    if picked.ranked is not None:
        record = known.evidence.measured.get(picked.label) or known.evidence.stale.get(picked.label)
        return e2e_s(record, alone) if record else None
    prediction = known.predict([picked.label], alone) if picked.prediction else None
    return prediction.predicted[0].e2e_s if prediction else None


def _expected_s(picked: Pick) -> float | None:
    if picked.ranked is not None:
        return picked.ranked.e2e_s
    rows = picked.prediction.predicted if picked.prediction else ()
    return next((row.e2e_s for row in rows if row.candidate == picked.label), None)


def _served(question: Question, candidates: Candidates, known: Known) -> Pick | None:
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
                picks = (_by_load(question, candidates, known, load, *way) for way in ways)
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


def _by_load(
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


def _measured(question: Question, candidates: Candidates, known: Known) -> Pick | None:
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


def _on_layers(question: Question, candidates: Candidates, known: Known) -> Pick | None:
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


def _stale(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    return _by_ranking(question, candidates, known.evidence.stale, Source.STALE)


def _same_shape_elsewhere(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """From another host with this device, on which this shape was measured."""
    alike = (other for other in known.elsewhere() if other.identity.fingerprint == question.identity.fingerprint)
    return _transferred(question, candidates, known, alike)


def _predicted(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """By what other hosts and models let one expect of those that did not fail here, or only with other versions."""
    here = known.evidence
    fresh = [label for label in candidates.legal if label not in here.failed]
    changed = [label for label in candidates.legal if label in here.outdated]
    labels = fresh if candidates.allowed.keys() & set(fresh) else changed
    prediction = expect(question, known, labels)
    best = best_of(question, known, prediction, candidates.allowed) if prediction else None
    return Pick(label=best.candidate, source=Source.PREDICTED, prediction=prediction) if best else None


def _another_size(question: Question, candidates: Candidates, known: Known) -> Pick | None:
    """From another size of the architecture on such a device, where nothing can be predicted."""
    return _transferred(question, candidates, known, known.elsewhere())


_FINDERS: Final[tuple[Callable[[Question, Candidates, Known], Pick | None], ...]] = (
    *(_served, _measured, _on_layers, _stale, _same_shape_elsewhere, _predicted, _another_size),
)


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


def _first(candidates: Candidates, here: Evidence) -> str:
    """The first of the static order that never failed here, else only with other versions, else that answers right."""
    labels = list(candidates.allowed)
    fresh = (label for label in labels if label not in here.failed)
    changed = (label for label in labels if label in here.outdated)
    right = (label for label in labels if not here.answers_wrong(label))
    return next(fresh, None) or next(changed, None) or next(right, labels[0])
