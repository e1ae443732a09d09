"""select(model) -> Selection: the fastest legal backend, by what was measured."""

import warnings
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Unpack

from calibration.cache.cache import Cache
from calibration.errors import NotCalibrated, TargetsMissed
from calibration.load.use import title_of
from selector import context as contexts
from selector.answer import Selection, SelectionWarning, Source
from selector.choice.advice import Advice
from selector.choice.answered_by import answered_by
from selector.choice.candidates import find_candidates
from selector.choice.met import unmet
from selector.choice.pick import pick
from selector.choice.picked import Pick
from selector.choice.promising import promising
from selector.context import Context
from selector.demand.demand import Demand, DemandOptions
from selector.host.spec import HostSpec
from selector.question import Question
from selector.served.arms import Way
from selector.served.evidence import ServedEvidence


def select(
    model: str | Path,
    demand: Demand | None = None,
    *,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    strict: bool = False,
    context: Context | None = None,
    **options: Unpack[DemandOptions],
) -> Selection:
    """Choose the backend for `model` on this host; says by SelectionWarning what its answer lacks.

    May be called from several threads at once: see Context.

    Args:
        model: a folder, a hub id or `shape:NAME`.
        demand: what is wanted; or, more briefly, `options`: see DemandOptions.
        cache: an open cache, a path or a SQLAlchemy URL.
        host: another machine than this one: see what_if.
        strict: an answer that nothing measured supports is an error, and one that is not likely to meet the demand's
            targets. Times of another model of the same shape support
            one; that the output was never checked for this model is a warning.
        context: what earlier calls have read and worked out; by default what all calls of this program share.

    Raises:
        ModelError, UsageError, CacheError: the model, an argument or the cache cannot be used.
        NoLegalBackend: every backend is refused.
        IllegalBackend: those that are named are.
        NotCalibrated: nothing was measured, and `strict`.
        TargetsMissed: no candidate is likely to meet the targets, and `strict`.
    """
    wanted = Demand.of(demand, **options)
    selection = choose(model, wanted, cache=cache, host=host, strict=strict, context=context)
    for sentence in selection.warnings:
        warnings.warn(sentence, SelectionWarning, stacklevel=2)
    return selection


def choose(
    model: str | Path,
    demand: Demand | None = None,
    *,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    strict: bool = False,
    to_serve: bool = False,
    context: Context | None = None,
    **options: Unpack[DemandOptions],
) -> Selection:
    """`select` for a caller who shows the answer's warnings himself.

    Args:
        to_serve: whoever answered wrong here as a server is no candidate, as for a load.
    """
    shared = context or contexts.DEFAULT
    wanted = Demand.of(demand, **options).answerable().measurable()
    question = shared.question(model, wanted, cache=cache, host=host, to_serve=to_serve)
    return shared.answer(question, strict, lambda: _answer(question, shared, strict))


def _answer(question: Question, context: Context, strict: bool) -> Selection:
    """What is known, the candidates by that, the pick among them, and what is to be said of it."""
    known = context.known(question)
    candidates = find_candidates(question, known)
    picked = pick(question, candidates, known)
    demand, name, here = question.demand, question.spec.name, known.evidence
    unmeasured = picked.source in {Source.PREDICTED, Source.RULES} or (bool(demand.loads) and not picked.served)
    if strict and unmeasured and (demand.targets or not demand.forced):
        raise NotCalibrated(_never_measured(demand, question), f"measure it: {demand.command('calibrate', name)}")
    provenance = answered_by(question, known, picked)
    advice = Advice(question=question, known=known, pick=picked, provenance=provenance)
    if strict and (missed := unmet(question, picked)):
        raise TargetsMissed(missed, f"see all of them: {demand.command('select', name)} --why")
    served = known.served() if demand.loads else ServedEvidence()
    failed = {**here.failed, **served.failed}
    told = {ranked.candidate.label for ranked in picked.served} | served.failed.keys()
    told |= set() if picked.served else {label for label in candidates.legal if here.tells_of(label)}
    return Selection(
        model=name,
        candidate=candidates.legal[picked.label],
        demand=demand,
        source=Source.FORCED if demand.forced else picked.source,
        ranking=picked.ranking,
        served=picked.served,
        tie=picked.tie,
        extrapolated=_is_extrapolated(picked),
        verdicts=candidates.verdicts,
        failed=tuple(failed[label] for label in candidates.legal if label in failed),
        stale=picked.stale,
        layers=tuple(here.layers[label][0] for label in candidates.legal if label in here.layers),
        prediction=picked.prediction,
        unmeasured=tuple(candidate for label, candidate in candidates.legal.items() if label not in told),
        warnings=tuple(advice.warnings()),
        notes=tuple(advice.notes()),
        promising=partial(promising, question, known, candidates, picked),
        inherited=once(advice.inherited),
        measured_at=picked.measured_at,
        provenance=provenance,
        spec=question.spec,
        host=question.host,
    )


def _never_measured(demand: Demand, question: Question) -> str:
    under = f" under {title_of(demand.use)}" if demand.loads else ""
    return f"{question.spec.name} was never measured on {question.host.place}{under}"


def _is_extrapolated(picked: Pick) -> bool:
    """Whether the choice stands on times outside of what was measured."""
    if picked.served:
        return picked.served[0].way is Way.EXTRAPOLATED
    return picked.ranked is not None and not picked.ranked.covered
