"""pick: which candidate answers, and by what evidence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from calibration.backend import Backend
from calibration.load.use import slots_of
from calibration.registry import find
from calibration.workload import Workload
from selector.answer import Source, Stale
from selector.choice.by_batch import (
    pick_another_size,
    pick_measured,
    pick_on_layers,
    pick_predicted,
    pick_same_shape_elsewhere,
    pick_stale,
)
from selector.choice.by_load import pick_by_load
from selector.choice.candidates import Candidates
from selector.choice.picked import Pick
from selector.evidence.evidence import Evidence
from selector.evidence.ranking import e2e_s
from selector.question import Known, Question

_FINDERS: Final[tuple[Callable[[Question, Candidates, Known], Pick | None], ...]] = (
    pick_by_load,
    pick_measured,
    pick_on_layers,
    pick_stale,
    pick_same_shape_elsewhere,
    pick_predicted,
    pick_another_size,
)
"""By one kind of evidence each, the best first; None where there is none of it."""


def pick(question: Question, candidates: Candidates, known: Known) -> Pick:
    """The best of the allowed candidates by the best evidence there is, else the first of the static order.

    What was measured here comes first: of the whole model, then on its first layers, then with other versions. Then
    the same shape on another host with this very device. A prediction comes before what another size of the
    architecture showed, since it weighs that with all else that is known: over the hosts and shapes of results/ the
    plain order of other shapes on the same host picks at 1.16 of the best, at worst 12, the same shape on other hosts
    at 1.03.
    """
    picked = _several_at_once(question, candidates, known, _by_best_evidence(question, candidates, known))
    here, workload = known.evidence, question.demand.workload
    stale = tuple(
        Stale(candidate=candidate, differences=record.differences, e2e_s=e2e_s(record, workload))
        for label, candidate in candidates.legal.items()
        if (record := here.stale.get(label))
    )
    return replace(picked, stale=stale)


def _by_best_evidence(question: Question, candidates: Candidates, known: Known) -> Pick:
    picks = (finder(question, candidates, known) for finder in _FINDERS)
    static = Pick(label=_first(candidates, known.evidence), source=Source.RULES)
    return next((picked for picked in picks if picked is not None), static)


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
    other = _by_best_evidence(question, replace(candidates, allowed=several), known)
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
    known = picked.ranked or picked.expected
    return known.e2e_s if known else None


def _first(candidates: Candidates, here: Evidence) -> str:
    """The first of the static order that never failed here, else only with other versions, else that answers right."""
    labels = list(candidates.allowed)
    fresh = (label for label in labels if label not in here.failed)
    changed = (label for label in labels if label in here.outdated)
    right = (label for label in labels if not here.answers_wrong(label))
    return next(fresh, None) or next(changed, None) or next(right, labels[0])
