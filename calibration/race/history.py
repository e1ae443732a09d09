"""The launches of a calibration, read as decisions.py needs them: lossy candidates race with all, the others among
themselves.

Who asks without allowing lossy candidates must find the best of the others measured to the end.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from calibration.cache.cache import Cache
from calibration.environments.versions import POLICY
from calibration.measurement import (
    Agreement,
    Answered,
    Cell,
    Failure,
    Identity,
    Measurement,
    Outcome,
    OutputVerdict,
)
from calibration.race import decisions
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


def resumable(candidates: Sequence[LaunchSpec], identity: Identity, cells: Iterable[Workload], cache: Cache) -> Known:
    """What still holds of the newest calibration of this config, or, where it has none, of a model of the same shape.

    A launch holds when its environment and policy are today's, and a measurement when it has every cell that is asked
    for. A launch killed by the budget or by the user leaves no row, so it is simply missing.
    """
    wanted, environments = set(cells), {c.label: dict(c.environment) for c in candidates}
    rows = cache.find(
        architecture=identity.architecture,
        quant=identity.quant,
        device=identity.device,
        fingerprint=identity.fingerprint,
    )
    current = sorted(
        (
            o
            for o in rows
            if o.identity.shape == identity.shape
            and o.policy == POLICY
            and dict(o.environment) == environments.get(o.candidate.label)
        ),
        key=lambda o: o.started_at,
    )
    own = [o for o in current if o.identity.config == identity.config]
    timed = [o for o in current if isinstance(o, Measurement) and wanted <= {c.workload for c in o.cells}]
    newest = [o for o in timed if o.identity.config == identity.config] or timed
    if not newest:
        return Known(agreements=_agreements(own))
    run_ids = {o.run_id for o in timed} | {o.run_id for o in own if not isinstance(o, Measurement)}
    calibration_id = newest[-1].calibration_id
    launches = [o for o in current if o.run_id in run_ids and o.calibration_id == calibration_id]
    return Known(launches=launches, agreements=_agreements(own))


def failed(outcomes: Iterable[Outcome], spec: LaunchSpec) -> bool:
    """Whether a launch of a candidate failed."""
    return any(o.candidate == spec.candidate and isinstance(o, Failure) for o in outcomes)


def order(
    candidates: Sequence[LaunchSpec], still_in: Iterable[LaunchSpec], outcomes: Sequence[Outcome], number: int
) -> list[str]:
    """The order of a round, from what was known before it, so that an interrupted round goes on in the same."""
    labels = [c.label for c in still_in]
    bits = {c.label: int(re.sub(r"\D", "", c.variant.precision) or 0) for c in candidates if c.variant.lossy}
    if number == 1:
        return decisions.first_order(labels, bits)
    return decisions.order(labels, launches_by_round(candidates, outcomes, number - 1), bits)


def hopeful_first(
    candidates: Sequence[LaunchSpec], waiting: Sequence[LaunchSpec], outcomes: Sequence[Outcome]
) -> tuple[LaunchSpec, ...]:
    """Who is left of a first round, with those last who have little hope: all that their backend has launched of their
    kind is beaten.

    A budget that ends early has then met the others; where there is none the order costs nothing.

    Args:
        waiting: not launched yet, in their order.
    """
    launched = launches_by_round(candidates, outcomes, 1)
    out, lossy = beaten(candidates, launched), _lossy(candidates)

    def is_hopeless(spec: LaunchSpec) -> bool:
        siblings = {
            label
            for label in launched
            if label.partition(":")[0] == spec.candidate.backend and (label in lossy) is spec.variant.lossy
        }
        return bool(siblings) and siblings <= out

    return tuple(sorted(waiting, key=is_hopeless))


def launches_by_round(candidates: Sequence[LaunchSpec], outcomes: Sequence[Outcome], rounds: int) -> decisions.Standing:
    """One row for each candidate that never failed: its cells in each round, None where it was not launched."""
    standing: dict[str, list[dict[Workload, decisions.Times] | None]] = {}
    for spec in candidates:
        launches: list[dict[Workload, decisions.Times] | None] = [None] * rounds
        for outcome in outcomes:
            if isinstance(outcome, Measurement) and outcome.candidate == spec.candidate and outcome.round <= rounds:
                launches[outcome.round - 1] = _times(outcome.cells)
        if any(launches) and not failed(outcomes, spec):
            standing[spec.label] = launches
    return standing


def rivals(
    candidates: Iterable[LaunchSpec], outcomes: Iterable[Outcome], spec: LaunchSpec
) -> list[dict[Workload, decisions.Times]]:
    """The cells of the others' launches; a candidate that is not lossy has no lossy rivals."""
    lossy = _lossy(candidates)
    return [
        _times(o.cells)
        for o in outcomes
        if isinstance(o, Measurement)
        and o.candidate != spec.candidate
        and (spec.variant.lossy or o.candidate.label not in lossy)
    ]


def ahead(cells: Iterable[Cell], rivals: Collection[Mapping[Workload, decisions.Times]]) -> bool:
    """Whether a launch is the fastest so far at anything."""
    return decisions.ahead(_times(cells), rivals)


def beaten(candidates: Iterable[LaunchSpec], standing: decisions.Standing) -> set[str]:
    """Who is out: a lossy candidate by any other, a candidate that is not lossy by its like only."""
    lossy = _lossy(candidates)
    exact = {label: launches for label, launches in standing.items() if label not in lossy}
    return decisions.eliminate(exact) | (decisions.eliminate(standing) & lossy)


def over(candidates: Iterable[LaunchSpec], standing: decisions.Standing, rounds: int) -> str | None:
    """Why the race is over: it is so for the lossy candidates and for the others, each among themselves.

    Args:
        standing: of those that are still in it.
    """
    whys = [decisions.finished(group, rounds) for group in _groups(candidates, standing)]
    return next((why for why in whys if why), "none left") if all(whys) else None


def rematch(candidates: Iterable[LaunchSpec], standing: decisions.Standing) -> list[list[str]]:
    """The launches A B B A of a leader and its closest rival where they overlap.

    Of the lossy candidates and of the others, each among themselves: none, one or two lists of four labels.

    Args:
        standing: after one round in which loads took minutes.
    """
    out = beaten(candidates, standing)
    left = {label: launches for label, launches in standing.items() if label not in out}
    rematches = [decisions.rematch(group, long_load=True) for group in _groups(candidates, left)]
    return [launches for launches in rematches if launches]


def outside(
    rematches: Iterable[Sequence[str]], candidates: Iterable[LaunchSpec], standing: decisions.Standing
) -> list[str]:
    """Who is not launched in the rematch of its kind, lossy or not."""
    groups = _groups(candidates, standing)
    pairs = [(launches, group) for launches in rematches for group in groups if launches[0] in group]
    return [label for launches, group in pairs for label in group if label not in launches]


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


def _groups(candidates: Iterable[LaunchSpec], standing: decisions.Standing) -> list[decisions.Standing]:
    """The candidates that are not lossy, and the lossy ones; no group is empty."""
    lossy = _lossy(candidates)
    groups = [{n: launches for n, launches in standing.items() if (n in lossy) is kind} for kind in (False, True)]
    return [group for group in groups if group]


def _lossy(candidates: Iterable[LaunchSpec]) -> set[str]:
    return {c.label for c in candidates if c.variant.lossy}


def _times(cells: Iterable[Cell]) -> dict[Workload, decisions.Times]:
    return {c.workload: (c.ttft_s, c.tpot_s) for c in cells}
