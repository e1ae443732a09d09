"""select(model) -> Selection: the fastest legal backend, by what was measured."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from calibration.cache.cache import Cache
from calibration.errors import NotCalibrated
from calibration.measurement import Candidate, FailureKind
from calibration.registry import find
from calibration.workload import Workload
from selector import context as memo
from selector.advice import Advice
from selector.answer import Selection, SelectionWarning, Source, Stale
from selector.demand import Demand, DemandOptions
from selector.evidence import Elsewhere, Evidence, elsewhere, evidence
from selector.host.spec import HostSpec
from selector.identity import identity
from selector.model.spec import ModelSpec
from selector.ranking import Record, rank, tied
from selector.refusals import all_wrong, refusal
from selector.rules.judge import Verdict

_selections = memo.Memo(1024)


def select(
    model: str | Path,
    demand: Demand | None = None,
    *,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    strict: bool = False,
    **options: Unpack[DemandOptions],
) -> Selection:
    """Choose the backend for `model` on this host; says by SelectionWarning what its answer lacks.

    Args:
        model: a folder, a hub id or `shape:NAME`.
        demand: what is wanted; or, more briefly, `options`: see DemandOptions.
        cache: an open cache, a path or a SQLAlchemy URL.
        strict: an answer that nothing measured supports is an error. Times of another model of the same shape support
            one; that the output was never checked for this model is a warning.

    Raises:
        ModelError, UsageError, CacheError: the model, an argument or the cache cannot be used.
        NoLegalBackend: every backend is refused.
        IllegalBackend: those that are named are.
        NotCalibrated: nothing was measured, and `strict`.
    """
    selection = choose(model, Demand.of(demand, **options), cache=cache, host=host, strict=strict)
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
    **options: Unpack[DemandOptions],
) -> Selection:
    """`select` for a caller who shows the answer's warnings himself."""
    wanted = Demand.of(demand, **options).for_an_answer()
    here = host or memo.this_host()
    spec = memo.read_model(str(model))
    opened = memo.open_cache(cache, _say)
    key = (opened.token(), wanted, strict)
    return _selections.answer(key, (opened, here, spec), lambda: _choose(spec, here, opened, wanted, strict))


def _choose(spec: ModelSpec, host: HostSpec, cache: Cache, demand: Demand, strict: bool) -> Selection:
    key = identity(spec, host, device_count=demand.tensor_parallel)
    environments = memo.environments(host)
    known = evidence(cache, key, environments)
    verdicts = memo.verdicts(spec, host, demand)
    if demand.max_kl is not None:
        verdicts = tuple(_near(v, known, demand.max_kl) for v in verdicts)
    legal = {v.candidate.label: v.candidate for v in verdicts if v.legal and not v.left_out}
    allowed = {label: c for label, c in legal.items() if demand.names(label)}
    if not allowed:
        raise refusal(spec, verdicts, demand)
    wrong = {label for label, f in known.failed.items() if f.kind is FailureKind.WRONG_OUTPUT and _today(known, label)}
    records, source, origin = _evidence_for(legal, allowed, known, lambda: elsewhere(cache, key, environments))
    ranking = rank(records, demand.workload, demand.objective)
    pick = next((r.candidate.label for r in ranking if r.candidate.label in allowed), None)
    if pick is None:
        ranking, source, origin = (), Source.RULES, None
        pick = _static(allowed, known, wrong, forced=demand.forced)
        if pick is None:
            raise all_wrong(spec, verdicts, known, demand)
    if strict and source is Source.RULES and not demand.forced:
        raise NotCalibrated(
            f"{spec.name} was never measured on this host", f"measure it: {demand.command('calibrate', spec.name)}"
        )
    chosen = next((r for r in ranking if r.candidate.label == pick), None)
    stale = tuple(
        Stale(candidate=c, differences=known.stale[label].differences, e2e_s=_then(known.stale[label], demand.workload))
        for label, c in legal.items()
        if label in known.stale
    )
    told = Advice(
        spec=spec, host=host, demand=demand, pick=pick, source=source, origin=origin, known=known, ranking=ranking
    )
    return Selection(
        model=spec.name,
        candidate=legal[pick],
        demand=demand,
        source=Source.FORCED if demand.forced else source,
        ranking=ranking,
        tie=tied(chosen, (r for r in ranking if r is not chosen), demand.objective) if chosen else (),
        extrapolated=chosen is not None and not chosen.covered,
        verdicts=verdicts,
        failed=tuple(known.failed[label] for label in legal if label in known.failed),
        stale=stale,
        unmeasured=tuple(
            c
            for label, c in legal.items()
            if not (label in known.measured or label in known.stale or label in known.failed)
        ),
        warnings=tuple(told.warnings()),
        notes=tuple(told.notes(stale)),
        measured_at=max((r.last.started_at for r in records), default=None) if ranking else None,
        spec=spec,
        host=host,
    )


def _near(verdict: Verdict, known: Evidence, max_kl: float) -> Verdict:
    """Left out where it is lossy and was not found to be near enough, here: that of another model says nothing."""
    label, candidate = verdict.candidate.label, verdict.candidate
    if not verdict.legal or verdict.left_out or not find(candidate.backend).variant(candidate.variant).lossy:
        return verdict
    record = known.measured.get(label) or known.stale.get(label)
    kl = record.agreement.kl if record else None
    if kl is None:
        return replace(verdict, left_out=f"lossy, and its divergence is not known (--max-kl {max_kl:g})")
    return verdict if kl <= max_kl else replace(verdict, left_out=f"diverges by {kl:.2g} nats (--max-kl {max_kl:g})")


def _evidence_for(
    legal: dict[str, Candidate],
    allowed: dict[str, Candidate],
    known: Evidence,
    others: Callable[[], tuple[Elsewhere, ...]],
) -> tuple[list[Record], Source, Elsewhere | None]:
    """The records that compare with each other, the best kind that says something about an allowed candidate.

    A candidate that was measured with other versions never competes with one measured with today's: it is in `stale`.
    """
    for records, source in ((known.measured, Source.MEASURED), (known.stale, Source.STALE)):
        if allowed.keys() & records.keys():
            return [records[label] for label in legal if label in records], source, None
    usable = [label for label in legal if label not in known.failed or label in known.outdated]
    for other in others():
        if allowed.keys() & other.records.keys() & set(usable):
            return [other.records[label] for label in usable if label in other.records], Source.TRANSFERRED, other
    return [], Source.RULES, None


def _static(allowed: Iterable[str], known: Evidence, wrong: set[str], *, forced: bool) -> str | None:
    """The first of the static order that never failed here, else only with other versions, else that answers right."""
    labels = list(allowed)
    fresh = (label for label in labels if label not in known.failed)
    changed = (label for label in labels if label in known.outdated)
    right = (label for label in labels if label not in wrong)
    return next(fresh, None) or next(changed, None) or next(right, None) or (labels[0] if forced else None)


def _today(known: Evidence, label: str) -> bool:
    return label not in known.outdated


def _then(record: Record, workload: Workload) -> float | None:
    ranked = rank([record], workload)
    return ranked[0].e2e_s if ranked else None


def _say(sentence: str) -> None:
    warnings.warn(sentence, SelectionWarning, stacklevel=4)
