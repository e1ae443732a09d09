"""select(model) -> Selection: the fastest legal backend, by what was measured."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.errors import NotCalibrated, UsageError
from calibration.measurement import Candidate, FailureKind
from calibration.registry import find
from calibration.workload import DEFAULT, Workload
from selector import context as memo
from selector.advice import Advice, calibrate_command
from selector.answer import Selection, SelectionWarning, Source, Stale
from selector.demand import Demand
from selector.evidence import Elsewhere, Evidence, elsewhere, evidence
from selector.host.spec import HostSpec
from selector.identity import identity
from selector.model.spec import ModelSpec
from selector.ranking import OBJECTIVES, Record, rank, tied
from selector.refusals import all_wrong, refusal
from selector.rules.judge import Verdict

_selections = memo.Memo(1024)


def select(
    model: str | Path,
    *,
    backend: str | None = None,
    workload: Workload | str | None = None,
    objective: str = "latency",
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    strict: bool = False,
    allow_lossy: bool = False,
    max_kl: float | None = None,
    trust_remote_code: bool = False,
    tensor_parallel: int = 1,
) -> Selection:
    """Choose the backend for `model` on this host; says by SelectionWarning what its answer lacks.

    Args:
        model: a folder, a hub id or `shape:NAME`.
        backend: this one, or one variant of it (`transformers:sdpa`); used or refused with every reason.
        workload: a label or standard name; by default `chat`.
        objective: one of OBJECTIVES.
        cache: an open cache, a path or a SQLAlchemy URL.
        strict: an answer that nothing measured supports is an error.
        allow_lossy: int8 and the like may be chosen for a model that is more precise.
        max_kl: they may be chosen where their measured divergence from the reference is at most so many nats.

    Raises:
        ModelError, UsageError, CacheError: the model, an argument or the cache cannot be used.
        NoLegalBackend: every backend is refused.
        IllegalBackend: the named one is.
        NotCalibrated: nothing was measured, and `strict`.
    """
    found = choose(
        model,
        backend=backend,
        workload=workload,
        objective=objective,
        cache=cache,
        host=host,
        strict=strict,
        allow_lossy=allow_lossy,
        max_kl=max_kl,
        trust_remote_code=trust_remote_code,
        tensor_parallel=tensor_parallel,
    )
    for sentence in found.warnings:
        warnings.warn(sentence, SelectionWarning, stacklevel=2)
    return found


def choose(
    model: str | Path,
    *,
    backend: str | None = None,
    workload: Workload | str | None = None,
    objective: str = "latency",
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    strict: bool = False,
    allow_lossy: bool = False,
    max_kl: float | None = None,
    trust_remote_code: bool = False,
    tensor_parallel: int = 1,
) -> Selection:
    """`select` for a caller who shows the answer's warnings himself."""
    asked = DEFAULT if workload is None else workload if isinstance(workload, Workload) else Workload.parse(workload)
    if objective not in OBJECTIVES:
        raise UsageError(f"unknown objective {objective!r}", f"known are: {', '.join(OBJECTIVES)}")
    if tensor_parallel < 1:
        raise UsageError(f"needs 1 device or more; found {tensor_parallel}")
    if backend is not None:
        _known(backend)
    here = host or memo.this_host()
    spec = memo.read_model(str(model))
    demand = Demand(
        workload=asked,
        allow_lossy=allow_lossy,
        max_kl=max_kl,
        trust_remote_code=trust_remote_code,
        tensor_parallel=tensor_parallel,
        requested=frozenset() if backend is None else frozenset({backend}),
    )
    opened = memo.open_cache(cache, _say)
    key = (opened.token(), demand, backend, objective, strict)
    return _selections.answer(
        key, (opened, here, spec), lambda: _choose(spec, here, opened, demand, backend, objective, strict)
    )


def _choose(
    spec: ModelSpec, host: HostSpec, cache: Cache, demand: Demand, backend: str | None, objective: str, strict: bool
) -> Selection:
    key = identity(spec, host, device_count=demand.tensor_parallel)
    environments = memo.environments(host)
    known = evidence(cache, key, environments)
    verdicts = memo.verdicts(spec, host, demand)
    if demand.max_kl is not None:
        verdicts = tuple(_near(v, known, demand.max_kl) for v in verdicts)
    legal = {v.candidate.label: v.candidate for v in verdicts if v.legal and not v.left_out}
    allowed = {label: c for label, c in legal.items() if backend in {None, c.backend, label}}
    if not allowed:
        raise refusal(spec, verdicts, backend)
    wrong = {label for label, f in known.failed.items() if f.kind is FailureKind.WRONG_OUTPUT and _today(known, label)}
    records, source, origin = _evidence_for(legal, allowed, known, lambda: elsewhere(cache, key, environments))
    ranking = rank(records, demand.workload, objective)
    pick = next((r.candidate.label for r in ranking if r.candidate.label in allowed), None)
    if pick is None:
        ranking, source, origin = (), Source.RULES, None
        pick = _static(allowed, known, wrong, forced=backend is not None)
        if pick is None:
            raise all_wrong(spec, verdicts, known)
    if strict and source is Source.RULES and backend is None:
        raise NotCalibrated(
            f"{spec.name} was never measured on this host", f"measure it: {calibrate_command(spec.name, demand)}"
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
        source=source if backend is None else Source.FORCED,
        workload=demand.workload,
        objective=objective,
        ranking=ranking,
        tie=tied(chosen, (r for r in ranking if r is not chosen), objective) if chosen else (),
        extrapolated=chosen is not None and not chosen.covered,
        verdicts=verdicts,
        failed=tuple(known.failed[label] for label in legal if label in known.failed),
        stale=stale,
        unmeasured=tuple(
            c
            for label, c in legal.items()
            if not (label in known.measured or label in known.stale or label in known.failed)
        ),
        warnings=tuple(told.warnings(forced=backend is not None)),
        notes=tuple(told.notes(stale)),
        measured_at=max((r.last.started_at for r in records), default=None) if ranking else None,
        spec=spec,
        host=host,
        trust_remote_code=demand.trust_remote_code,
        tensor_parallel=demand.tensor_parallel,
    )


def _near(verdict: Verdict, known: Evidence, max_kl: float) -> Verdict:
    """Left out where it is lossy and was not found to be near enough, here: that of another model says nothing."""
    label, candidate = verdict.candidate.label, verdict.candidate
    if not verdict.legal or verdict.left_out or not find(candidate.backend).variant(candidate.variant).lossy:
        return verdict
    record = known.measured.get(label) or known.stale.get(label)
    kl = record.last.agreement.kl if record else None
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
    ranked = rank([record], workload, "latency")
    return ranked[0].e2e_s if ranked else None


def _known(label: str) -> None:
    """Raises UsageError for an unknown backend or variant."""
    name, _, variant = label.partition(":")
    known = [v.name for v in find(name).variants]
    if variant not in known and label != name:
        raise UsageError(f"unknown variant {label!r}", f"variants of {name}: {', '.join(known)}")


def _say(sentence: str) -> None:
    warnings.warn(sentence, SelectionWarning, stacklevel=4)
