"""Rank candidates by what they did under a load: the median of their launches, ties, and who is probably the best."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from calibration.load.load import Load
from calibration.measurement import Agreement, Candidate
from calibration.noise import interval, launch_cv, ratio_cv
from calibration.race.bounds import BAND
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.demand.price import Costs
from selector.demand.targets import chance
from selector.evidence.contender import Contender, choose_contender
from selector.served.arms import Arm, ServedLaunch, Way, arms_of
from selector.served.evidence import ServedRecord
from selector.served.figures import Figures, middle

_Z95 = 1.95996


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRanked(Contender):
    """A candidate under a load, as it is served best: with the threads that did best."""

    candidate: Candidate
    load: Load
    slots: int
    threads: int
    figures: Figures
    """Medians over the launches."""
    launches: tuple[ServedLaunch, ...]
    way: Way
    error: float | None
    """How far off the form of interpolation was at a measured level; None where none tells, or it was measured."""
    agreement: Agreement
    """The verdict on the output of the engine alone."""
    as_served: Agreement
    """The verdict on what it answered to several requests at once."""
    value: float
    """By the objective; less is better."""
    ci95: tuple[float, float]
    """Of the value."""
    launch_cv: float
    """How much launches on this host differ in it."""
    p_best: float = 0.0
    """The probability that it is the best of those that are ranked."""
    costs: Costs | None = None
    void: bool = False
    """In every launch something makes the figures doubtful: other programs used the cores, or requests failed."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it; seconds."""
        return {
            "candidate": self.candidate.label,
            "load": self.load.label,
            "slots": self.slots,
            "threads": self.threads,
            **self.figures.to_json(),
            "n": len(self.launches),
            "way": str(self.way),
            "error": self.error,
            "p_best": self.p_best,
            "chance": self.chance,
            "output": str(self.agreement.verdict),
            "kl": self.agreement.kl,
            "as_served": str(self.as_served.verdict),
            "void": self.void,
            "cost_per_million_output": self.costs and self.costs.output,
            "cost_per_million_total": self.costs and self.costs.total,
        }


def rank_served(
    records: Iterable[ServedRecord], load: Load, demand: Demand, *, device_kind: str
) -> tuple[ServedRanked, ...]:
    """The candidates whose figures under the load are known: the choice first, the others by the objective.

    Measured figures come before interpolated ones, and these before extrapolated ones. Targets are for what 95 of 100
    requests keep.

    Args:
        records: in the static order.
    """
    known = [(record, arms) for record in records if (arms := arms_of(record, load, demand.targets))]
    values = [[demand.objective.of(launch.figures) for launch in arm.launches] for _, arms in known for arm in arms]
    cv = launch_cv(device_kind, [[v for v in group if math.isfinite(v) and v > 0] for group in values])
    # Goodput counts what meets the targets by itself; the other objectives choose among those that keep to them.
    bound = demand.objective is not Objective.GOODPUT

    def place(one: ServedRanked) -> tuple[int, bool, float]:
        return _distance(one.way), bound and not one.meets, one.value

    ranked = []
    for record, arms in known:
        by_threads = [_ranked(record, arm, load, demand, cv) for arm in arms]
        ranked.append(min(by_threads, key=lambda one: (*place(one), -one.threads)))
    if not ranked:
        return ()
    nearest = min(_distance(one.way) for one in ranked)
    able = [one for one in ranked if _distance(one.way) == nearest]
    first = choose_contender(able, lambda one: one.value, bound=bound)
    return _with_chances((first, *sorted((one for one in ranked if one is not first), key=place)))


def tied_served(ranking: Sequence[ServedRanked], objective: Objective, *, device_kind: str) -> tuple[str, ...]:
    """Labels of those that cannot be told from the first: within the band, or with 1 in the interval of the ratio.

    Where targets decide, only candidates that meet them are as good as another.
    """
    if not ranking:
        return ()
    first, *others = ranking
    bound = objective is not Objective.GOODPUT
    alike = [one for one in others if one.way is first.way and (not bound or (first.meets and one.meets))]
    return tuple(one.candidate.label for one in alike if _same(one, first, objective, device_kind))


def times_worse(worse: ServedRanked, best: ServedRanked, objective: Objective, device_kind: str) -> tuple[float, float]:
    """How many times better one is than another, and half the width of the 95 % interval of that."""
    ratios = _ratios(worse, best, objective)
    low, high = interval(ratios, _ratio_cv(worse, best, objective, device_kind))
    return median(ratios), (high - low) / 2


def _ranked(record: ServedRecord, arm: Arm, load: Load, demand: Demand, cv: float) -> ServedRanked:
    values = [demand.objective.of(launch.figures) for launch in arm.launches]
    figures, targets = middle([launch.figures for launch in arm.launches]), demand.targets
    worst = [targets.worst(one.figures.ttft_p95_s, one.figures.tpot_p95_s) for one in arm.launches]
    finite = all(math.isfinite(value) and value > 0 for value in values)
    return ServedRanked(
        candidate=record.candidate,
        load=load,
        slots=arm.slots,
        threads=arm.threads,
        figures=figures,
        launches=arm.launches,
        way=arm.way,
        error=arm.error,
        agreement=record.agreement,
        as_served=record.as_served,
        value=median(values),
        ci95=interval(values, cv) if finite else (math.inf, math.inf),
        launch_cv=cv,
        chance=_chance(worst, cv) if targets else None,
        miss=targets.worst(figures.ttft_p95_s, figures.tpot_p95_s),
        costs=_costs(figures, load, demand.price_per_hour),
        void=arm.void,
    )


def _chance(worst: Sequence[float], cv: float) -> float:
    """See targets.chance; a launch whose requests wait ever longer meets nothing."""
    finite = [ratio for ratio in worst if math.isfinite(ratio)]
    return chance(finite, cv) * len(finite) / len(worst) if finite else 0.0


def _costs(figures: Figures, load: Load, price_per_hour: float | None) -> Costs | None:
    if price_per_hour is None or not figures.output_tps:
        return None
    output = 1e6 * price_per_hour / 3600.0 / figures.output_tps
    return Costs(output=output, total=output * load.output_mean / (load.prompt_mean + load.output_mean))


def _distance(way: Way) -> int:
    return list(Way).index(way)


def _same(other: ServedRanked, first: ServedRanked, objective: Objective, device_kind: str) -> bool:
    if max(other.value, first.value) <= min(other.value, first.value) * (1 + BAND):
        return True
    if objective.of_launch is None or not (math.isfinite(other.value) and math.isfinite(first.value)):
        return False
    ratios = _ratios(other, first, objective)
    low, high = interval(ratios, _ratio_cv(other, first, objective, device_kind))
    return low <= 1.0 <= high


def _ratios(one: ServedRanked, other: ServedRanked, objective: Objective) -> list[float]:
    """Of their values, in the turns that they share; of the medians where they share none."""
    mine, others = (_by_turn(ranked, objective) for ranked in (one, other))
    shared = [mine[turn] / others[turn] for turn in mine if others.get(turn)]
    shared = [ratio for ratio in shared if math.isfinite(ratio)]
    return shared or [one.value / other.value if other.value else math.inf]


def _ratio_cv(one: ServedRanked, other: ServedRanked, objective: Objective, device_kind: str) -> float:
    return ratio_cv(device_kind, [_by_turn(ranked, objective) for ranked in (one, other)])


def _by_turn(ranked: ServedRanked, objective: Objective) -> Mapping[tuple[str, int], float]:
    values = {launch.turn: objective.of(launch.figures) for launch in ranked.launches}
    return {turn: value for turn, value in values.items() if math.isfinite(value)}


def _with_chances(ranking: Sequence[ServedRanked]) -> tuple[ServedRanked, ...]:
    """Each with the probability that its true value is the least; logarithms of medians are taken for normal."""
    beliefs = {
        place: (math.log(one.value), max(1e-6, math.log(one.ci95[1] / one.ci95[0]) / (2 * _Z95)))
        for place, one in enumerate(ranking)
        if math.isfinite(one.value) and one.value > 0 and one.ci95[0] > 0
    }
    return tuple(replace(one, p_best=_p_least(place, beliefs)) for place, one in enumerate(ranking))


def _p_least(place: int, beliefs: Mapping[int, tuple[float, float]]) -> float:
    """The integral, over one's own distribution, of the probability that all others are above."""
    if place not in beliefs:
        return 0.0
    mean, spread = beliefs[place]
    others = [belief for other, belief in beliefs.items() if other != place]
    total = weight = 0.0
    for step in range(-40, 41):
        z = step / 10.0
        density = math.exp(-z * z / 2.0)
        above = 1.0
        for other_mean, other_spread in others:
            above *= 0.5 * math.erfc((mean + z * spread - other_mean) / (other_spread * math.sqrt(2.0)))
        total += density * above
        weight += density
    return total / weight
