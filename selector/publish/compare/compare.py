"""Results beside older ones: what a change of versions made worse, what it made better, and who is the fastest now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from calibration.errors import UsageError
from calibration.measurement import Failure, FailureKind, Identity, Outcome, OutputVerdict
from calibration.race.bounds import BAND
from calibration.workload import STANDARD, Workload
from selector.demand.demand import Demand
from selector.evidence.comparison import ratio, tied
from selector.evidence.evidence import Evidence, weigh
from selector.evidence.ranking import Ranked, rank
from selector.publish.hosts.host_file import HostResults, KeptVerdict
from selector.publish.matrix.matrix import outcomes_by_model
from selector.screens.text import seconds_within


class Kind(StrEnum):
    """What is other than before."""

    FAILING = "fails"
    WRONG = "wrong output"
    REFUSED = "refused"
    SLOWER_WINNER = "slower winner"
    OTHER_WINNER = "other winner"
    SLOWER = "slower"
    NOT_MEASURED = "not measured"
    WORKS = "works"


WORSE = frozenset({Kind.FAILING, Kind.WRONG, Kind.REFUSED, Kind.SLOWER_WINNER})
"""The kinds that fail a comparison; the others are only said."""

LOSSY = ", lossy allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One candidate of a model, or one workload of it, that is other than before."""

    host: str
    model: str
    kind: Kind
    of: str
    """The candidate's label; of a winner the workload's, with `, lossy allowed` where that is what differs."""
    before: str
    now: str

    @property
    def worse(self) -> bool:
        return self.kind in WORSE

    def to_json(self) -> dict[str, Any]:
        """As `autobackend publish --compare OLD --json` prints it."""
        return {
            "host": self.host, "model": self.model, "kind": str(self.kind), "worse": self.worse, "of": self.of,
            "before": self.before, "now": self.now,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two sets of results have in common, and where they differ."""

    hosts: tuple[str, ...]
    """The hosts that both have."""
    models: int
    candidates: int
    """That were measured before, or had failed, or were judged."""
    winners: int
    """Workloads of models whose winner is known before and now; with and without the lossy candidates."""
    changes: tuple[Change, ...]

    @property
    def worse(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.worse)

    def to_json(self) -> dict[str, Any]:
        """As `autobackend publish --compare OLD --json` prints it."""
        return {
            "hosts": list(self.hosts), "models": self.models, "candidates": self.candidates, "winners": self.winners,
            "worse": len(self.worse), "changes": [change.to_json() for change in self.changes],
        }  # fmt: skip


def compare(old: Sequence[HostResults], new: Sequence[HostResults]) -> Comparison:
    """Set the results of each host beside its older ones.

    Worse is: a candidate that was legal fails, or a rule refuses it, or its output is wrong; and a winner that is not
    the one before, and slower than that was: by more than the band, beyond what launches tell apart. A winner that was
    as fast as the first before, or that the one before is as fast as now, is no other winner.

    Raises:
        UsageError: they have no host in common.
    """
    by_host = {results.host: results for results in old}
    pairs = [(by_host[results.host], results) for results in new if results.host in by_host]
    if not pairs:
        before, now = (", ".join(results.host for results in group) or "no host" for group in (old, new))
        raise UsageError(
            f"nothing to compare: the older results are of {before}, the new ones of {now}",
            "compare results of the same machine: autobackend host names it",
        )
    beside = [
        _Beside(host=then.host, model=model, before=before, now=now)
        for then, results in pairs
        for model, before, now in _models(then, results)
    ]
    known = [(b, rankings) for b in beside for rankings in b.rankings()]
    winners = [change for b, rankings in known if (change := b.winner_change(*rankings))]
    changes = [change for b in beside for change in b.candidate_changes()]
    return Comparison(
        hosts=tuple(then.host for then, _ in pairs),
        models=len(beside),
        candidates=sum(len(b.before.labels) for b in beside),
        winners=len(known),
        changes=tuple(_each_once([*changes, *winners])),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What one set of results knows of a model."""

    evidence: Evidence
    verdicts: Mapping[str, KeptVerdict]
    device_kind: str

    @property
    def labels(self) -> frozenset[str]:
        known = self.evidence
        return frozenset((*known.measured, *known.stale, *known.failed, *self.verdicts))

    def reason_against(self, label: str) -> str:
        verdict = self.verdicts.get(label)
        return verdict.reasons[0] if verdict and verdict.reasons else ""

    def is_legal(self, label: str) -> bool:
        """Whether the candidate was launched and answered right, or a rule says nothing against it."""
        if label in self.evidence.failed or self.reason_against(label):
            return False
        return label in self.evidence.measured or label in self.evidence.stale or label in self.verdicts

    def ranking(self, workload: Workload, *, lossy: bool) -> tuple[Ranked, ...]:
        """Of what `select` may choose, in the order of the verdicts, which is the static order."""
        records = self.evidence.measured
        order = [
            *(label for label in self.verdicts if label in records),
            *(n for n in records if n not in self.verdicts),
        ]
        able = [
            records[label]
            for label in order
            if not self.reason_against(label) and (lossy or records[label].agreement.verdict is not OutputVerdict.LOSSY)
        ]
        return rank(able, Demand(workloads=(workload,)), device_kind=self.device_kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    """A model before and now."""

    host: str
    model: str
    before: _Known
    now: _Known

    @property
    def workloads(self) -> list[Workload]:
        """The standard workloads, and the cells that both have timed."""
        cells = [
            {c for record in known.evidence.measured.values() for launch in record.launches for c in launch.cells}
            for known in (self.before, self.now)
        ]
        return list(dict.fromkeys((*STANDARD.values(), *sorted(cells[0] & cells[1], key=lambda w: w.label))))

    def candidate_changes(self) -> Iterable[Change]:
        """The candidates that worked and do not, and the other way round."""
        for label in sorted(self.before.labels & self.now.labels):
            was, now = self._state(self.before, label), self._state(self.now, label)
            if self.before.is_legal(label) and (kind := self._trouble(label)):
                yield self._change(kind, label, was, now)
            elif not self.before.is_legal(label) and label in self.now.evidence.measured:
                yield self._change(Kind.WORKS, label, was, now)

    def rankings(self) -> Iterable[tuple[str, tuple[Ranked, ...], tuple[Ranked, ...]]]:
        """The workloads whose winner is known before and now, and both rankings; with and without lossy candidates."""
        for workload in self.workloads:
            for lossy in (False, True):
                before, now = self.before.ranking(workload, lossy=lossy), self.now.ranking(workload, lossy=lossy)
                if before and now and before[0].covered and now[0].covered:
                    yield f"{workload.label}{LOSSY if lossy else ''}", before, now

    def winner_change(self, of: str, before: Sequence[Ranked], now: Sequence[Ranked]) -> Change | None:
        """What is other about a workload's winner, beyond what launches tell apart."""
        was, first = before[0], now[0]
        slower = ratio(first, was)
        is_slower = slower.value > 1 + BAND and slower.low > 1
        if first.candidate == was.candidate:
            return self._change(Kind.SLOWER, of, _told(was), _told(first)) if is_slower else None
        then = next((ranked for ranked in now if ranked.candidate == was.candidate), None)
        if first.candidate.label in tied(was, before[1:]) or (then and was.candidate.label in tied(first, now[1:])):
            return None
        if then is None and self._trouble(was.candidate.label) is None:
            return self._change(Kind.NOT_MEASURED, of, _told(was), self._unmeasured(was.candidate.label))
        return self._change(Kind.SLOWER_WINNER if is_slower else Kind.OTHER_WINNER, of, _told(was), _told(first))

    def _unmeasured(self, label: str) -> str:
        stale = self.now.evidence.stale.get(label)
        return f"{label} is stale: {', '.join(stale.differences)}" if stale else f"{label} was not measured"

    def _trouble(self, label: str) -> Kind | None:
        """Why a candidate cannot be chosen now; None: it can, or it was not measured."""
        failure = self.now.evidence.failed.get(label)
        if failure is not None:
            return Kind.WRONG if failure.kind is FailureKind.WRONG_OUTPUT else Kind.FAILING
        return Kind.REFUSED if self.now.reason_against(label) else None

    def _state(self, known: _Known, label: str) -> str:
        failure = known.evidence.failed.get(label)
        if failure is not None:
            return _failed(failure)
        if reason := known.reason_against(label):
            return f"refused: {reason}"
        record = known.evidence.measured.get(label) or known.evidence.stale.get(label)
        return str(record.agreement.verdict) if record else "legal"

    def _change(self, kind: Kind, of: str, before: str, now: str) -> Change:
        return Change(host=self.host, model=self.model, kind=kind, of=of, before=before, now=now)


def _models(old: HostResults, new: HostResults) -> Iterable[tuple[str, _Known, _Known]]:
    """The models that both have, by name and shape; of one config where both keep it."""
    before = outcomes_by_model(old)
    for (identity, model), outcomes in outcomes_by_model(new).items():
        same = [key for key in before if key[1] == model and key[0].shape == identity.shape]
        own = [key for key in same if key[0].config == identity.config] or [k for k in same if not k[0].config]
        if own:
            kind = new.device_kind
            named = f"{model}, {identity.layers}" if identity.cut else model
            yield named, _known(old, own[0], before[own[0]], kind), _known(new, (identity, model), outcomes, kind)


def _known(results: HostResults, key: tuple[Identity, str], outcomes: Sequence[Outcome], device_kind: str) -> _Known:
    identity, model = key
    return _Known(
        evidence=weigh(outcomes, identity.config, results.environments),
        verdicts={verdict.label: verdict for verdict in results.verdicts.get(model, ())},
        device_kind=device_kind,
    )


def _each_once(changes: Iterable[Change]) -> Iterable[Change]:
    """A winner that is other with and without the lossy candidates is told once; the worse come first."""
    told: dict[tuple[str, ...], Change] = {}
    for change in changes:
        of = change.of.removesuffix(LOSSY)
        told.setdefault((change.host, change.model, of, change.before, change.now), change)
    return sorted(told.values(), key=lambda change: not change.worse)


def _failed(failure: Failure) -> str:
    return f"{failure.kind} in {failure.stage}: {failure.message.partition(chr(10))[0]}"


def _told(ranked: Ranked) -> str:
    low, high = ranked.ci95
    return f"{ranked.candidate.label}, {seconds_within(ranked.e2e_s, (high - low) / 2)}"
