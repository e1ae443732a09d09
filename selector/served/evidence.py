"""Evidence of serving: the launches under load on this host, by candidate, and what of them still holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from calibration.cache.cache import Cache
from calibration.environments.versions import POLICY, differences
from calibration.measurement import (
    Agreement,
    Candidate,
    FailureKind,
    Identity,
    Outcome,
    OutputVerdict,
    Served,
    Unserved,
)

Environments = Mapping[str, Mapping[str, str]]
"""Backend name: its environment today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRecord:
    """A candidate's launches under load with the same environment and policy, the oldest first; never empty."""

    candidate: Candidate
    launches: tuple[Served, ...]
    agreement: Agreement
    """The verdict on the output of the model that was asked about."""
    as_served: Agreement
    """The same, on what it answered to several requests at once."""
    differences: tuple[str, ...] = ()
    """What changed since: `vllm 0.32.0 -> 0.33.0`; empty where nothing did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedEvidence:
    """By candidate label; a label is in one of them."""

    measured: Mapping[str, ServedRecord] = field(default_factory=dict)
    """With today's environment and policy."""
    stale: Mapping[str, ServedRecord] = field(default_factory=dict)
    """With others."""
    failed: Mapping[str, Unserved] = field(default_factory=dict)
    """The newest launch with today's environment could not be served, or ended under load."""

    @property
    def wrong(self) -> Mapping[str, Unserved]:
        """Those of the failed that answer wrong as they are served: whatever they do alone, nobody is to serve them."""
        return {label: failure for label, failure in self.failed.items() if failure.kind is FailureKind.WRONG_OUTPUT}


def served_evidence(cache: Cache, identity: Identity, environments: Environments) -> ServedEvidence:
    """What the launches under load of this very model on this host say.

    Raises:
        CacheError: the cache cannot be read.
    """
    outcomes = cache.find_served(
        architecture=identity.architecture,
        quant=identity.quant,
        device=identity.device,
        fingerprint=identity.fingerprint,
    )
    alike = [o for o in outcomes if o.identity.shape == identity.shape]
    return weigh_served(alike, identity.config, environments)


def weigh_served(outcomes: Sequence[Outcome], config: str, environments: Environments) -> ServedEvidence:
    """Sort launches under load by candidate and by whether their environment is today's.

    As with static batches, times count for every model of the shape, failures for `config` alone.

    Args:
        outcomes: of one shape, the oldest first; those that are not of serving are left out.
    """
    by_label: dict[str, list[Served | Unserved]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Served | Unserved):
            by_label.setdefault(outcome.candidate.label, []).append(outcome)
    measured: dict[str, ServedRecord] = {}
    stale: dict[str, ServedRecord] = {}
    failed: dict[str, Unserved] = {}
    for label, launches in by_label.items():
        today = environments.get(launches[-1].candidate.backend, {})
        current = [o for o in launches if o.policy == POLICY and o.environment == today]
        own = [o for o in current if o.identity.config == config]
        if own and isinstance(newest := own[-1], Unserved):
            failed[label] = newest
            continue
        served = [o for o in launches if isinstance(o, Served)]
        if not served:
            continue
        kept = [o for o in served if o in current] or _alike(served)
        last = kept[-1]
        changes = [] if last in current else _changes(last, today)
        record = ServedRecord(
            candidate=last.candidate,
            launches=tuple(kept),
            agreement=_agreement(kept, config, lambda launch: launch.agreement),
            as_served=_agreement(kept, config, lambda launch: launch.as_served),
            differences=tuple(changes),
        )
        (measured if last in current else stale)[label] = record
    return ServedEvidence(measured=measured, stale=stale, failed=failed)


def _alike(launches: Sequence[Served]) -> list[Served]:
    """Those with the environment and the policy of the newest."""
    last = launches[-1]
    return [o for o in launches if (o.policy, o.environment) == (last.policy, last.environment)]


def _changes(launch: Served, today: Mapping[str, str]) -> list[str]:
    policy = [f"measuring policy {launch.policy} -> {POLICY}"] if launch.policy != POLICY else []
    return [*differences(launch.environment, today), *policy]


def _agreement(launches: Sequence[Served], config: str, verdict_of: Callable[[Served], Agreement]) -> Agreement:
    """The newest verdict of its kind that was compared, on this very model."""
    own = [verdict_of(launch) for launch in launches if launch.identity.config == config]
    compared = [agreement for agreement in own if agreement.verdict is not OutputVerdict.UNCHECKED]
    unchecked = Agreement(verdict=OutputVerdict.UNCHECKED, detail="served of another model of this shape")
    return (compared or own or [unchecked])[-1]
