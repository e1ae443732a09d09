"""What earlier runs of a calibration left in the cache: it goes on from there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from calibration.cache.cache import Cache
from calibration.environments.versions import POLICY
from calibration.measurement import Agreement, Answered, Identity, Measurement, Outcome, OutputVerdict
from calibration.supervision.launch_spec import LaunchSpec
from calibration.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What earlier runs left for a calibration."""

    launches: Sequence[Outcome] = ()
    """Of one calibration, oldest first. The times may be another model's of the same shape; failures and checks are of
    this config."""
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    """Candidate label: the verdict on its output for this config."""

    @property
    def unchecked(self) -> frozenset[str]:
        """Labels of the candidates whose times are known, and not whether their output is right for this config."""
        timed = {o.candidate.label for o in self.launches if isinstance(o, Measurement)}
        return frozenset(timed - self.agreements.keys())


def resumable(
    candidates: Sequence[LaunchSpec],
    identity: Identity,
    cells: Iterable[Workload],
    cache: Cache,
    *,
    partly: bool = False,
) -> Known:
    """What still holds of the newest calibration of this config, or, where it has none, of a model of the same shape.

    A launch holds when its environment and policy are today's, and a measurement when it has every cell that is asked
    for. A launch killed by the budget or by the user leaves no row, so it is simply missing.

    Args:
        partly: a measurement holds when it has any of the cells, too.
    """
    wanted, is_todays = set(cells), todays(candidates)
    rows = cache.find(
        architecture=identity.architecture,
        quant=identity.quant,
        device=identity.device,
        fingerprint=identity.fingerprint,
        cut=identity.cut,
    )
    current = sorted(
        (o for o in rows if o.identity.shape == identity.shape and is_todays(o)),
        key=lambda o: o.started_at,
    )
    own = [o for o in current if o.identity.config == identity.config]
    timed = [o for o in current if isinstance(o, Measurement) and _has(o, wanted, partly=partly)]
    newest = [o for o in timed if o.identity.config == identity.config] or timed
    if not newest:
        return Known(agreements=_agreements(own))
    run_ids = {o.run_id for o in timed} | {o.run_id for o in own if not isinstance(o, Measurement)}
    calibration_id = newest[-1].calibration_id
    launches = [o for o in current if o.run_id in run_ids and o.calibration_id == calibration_id]
    return Known(launches=launches, agreements=_agreements(own))


def todays(candidates: Sequence[LaunchSpec]) -> Callable[[Outcome], bool]:
    """A function that says of a launch whether it ran with today's policy and environment, as one of the candidates."""
    environments = {spec.label: dict(spec.environment) for spec in candidates}
    return lambda o: o.policy == POLICY and dict(o.environment) == environments.get(o.candidate.label)


def _has(measurement: Measurement, wanted: set[Workload], *, partly: bool) -> bool:
    timed = {cell.workload for cell in measurement.cells}
    return bool(wanted & timed) if partly else wanted <= timed


def _agreements(own: Iterable[Outcome]) -> dict[str, Agreement]:
    """The newest verdict on each candidate that did not fail since.

    Args:
        own: launches of this config, oldest first.
    """
    agreements: dict[str, Agreement] = {}
    for outcome in own:
        label = outcome.candidate.label
        if not isinstance(outcome, Answered):
            agreements.pop(label, None)
        elif label not in agreements or outcome.agreement.verdict is not OutputVerdict.UNCHECKED:
            agreements[label] = outcome.agreement
    return agreements
