"""Rank candidates by their times for a workload, and tell which of them are as fast as each other."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from calibration.cost import Cost, covers
from calibration.measurement import Agreement, Candidate, Measurement
from calibration.noise import SHARED_CPU_CV, interval
from calibration.race.decisions import BAND, RATIO_CV
from calibration.workload import Workload
from selector.demand import Demand
from selector.objective import Objective
from selector.price import Costs
from selector.targets import HOPELESS, LIKELY, chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A launch whose cost is fitted, so that it answers for any workload."""

    cost: Cost
    cells: tuple[Workload, ...]
    """Launches with the same cells share this very object."""
    calibration_id: str
    round: int
    started_at: float
    memory_bytes: int

    @property
    def turn(self) -> tuple[str, int]:
        """Launches of the same turn ran close to each other in time, so their times are compared."""
        return self.calibration_id, self.round


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The launches of a candidate with the same environment and policy."""

    candidate: Candidate
    launches: tuple[Timed, ...]
    """The oldest first; never empty."""
    last: Measurement
    """The newest launch with its samples. It may be of another model of the shape: then its agreement says nothing."""
    agreement: Agreement
    """The verdict on the output of the model that was asked about."""
    differences: tuple[str, ...] = ()
    """What changed since they ran: `ctranslate2 4.8.4 -> 4.8.5`; empty where nothing did."""


class Ratio(NamedTuple):
    """How many times longer one candidate takes than another, with the 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate's times for a workload; seconds."""

    candidate: Candidate
    workload: Workload
    ttft_s: float
    tpot_s: float
    e2e_s: float
    ci95: tuple[float, float]
    """Of e2e_s."""
    n: int
    """Number of launches."""
    memory_bytes: int
    covered: bool
    """The workload lies inside the measured cells."""
    agreement: Agreement
    """The verdict on the output of the model that was asked about; `unchecked` where another one was timed."""
    prepare_s: float | None
    """Seconds that its conversion took, in none of the times; None where nothing is converted."""
    artifact_bytes: int | None
    launches: tuple[Timed, ...]
    times: tuple[tuple[float, float], ...]
    """(TTFT, E2E) of each launch."""
    chance: float | None = None
    """The probability that its next launch meets the targets; None where none were given."""
    miss: float = 0.0
    """How many times its target the time is that keeps worst to it, by the medians; at most 1 where they meet all."""
    costs: Costs | None = None
    """Of a million tokens; None where the machine's price was not given."""

    @property
    def output_tps(self) -> float:
        """New tokens a second of all sequences; the time of the prefill counts."""
        return self.workload.batch * self.workload.output_tokens / self.e2e_s

    @property
    def meets(self) -> bool:
        """Whether it is likely to meet the targets; true where none were given."""
        return self.chance is None or self.chance >= LIKELY

    @property
    def nearness(self) -> tuple[float, float]:
        """The larger, the nearer to the targets: by the probability, and where it is next to none by the miss."""
        near = self.chance if self.chance is not None and self.chance >= HOPELESS else 0.0
        return near, -self.miss

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it; seconds."""
        return {
            "candidate": self.candidate.label,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "e2e_s": self.e2e_s,
            "output_tps": self.output_tps,
            "ci95": list(self.ci95),
            "n": self.n,
            "output": str(self.agreement.verdict),
            "kl": self.agreement.kl,
            "prepare_s": self.prepare_s,
            "artifact_bytes": self.artifact_bytes,
            "chance": self.chance,
            "cost_per_million_output": self.costs and self.costs.output,
            "cost_per_million_total": self.costs and self.costs.total,
        }


def rank(records: Iterable[Record], demand: Demand) -> tuple[Ranked, ...]:
    """The candidates that were measured: the choice first, the others by the objective.

    Candidates that meet the demand's targets come first. Those that do not are in the order of the probability that
    they do, and where none of all does, the choice is the most probable of them.

    The median decides. Of the candidates within BAND of the best median, the choice is the first in `records`, which is
    the static order: so noise does not change an answer. Candidates timed around the workload come before candidates
    whose times are extrapolated to it: a launch that a budget cut short has the cheap cells only.
    """
    hull: dict[int, bool] = {}
    ranked = [r for record in records if (r := _ranked(record, demand, hull)) is not None]
    if not ranked:
        return ()
    value = demand.objective.of
    timed = [r for r in ranked if r.covered] or ranked
    if meeting := [r for r in timed if r.meets]:
        least = min(value(r) for r in meeting)
        first = next(r for r in meeting if value(r) <= least * (1 + BAND))
    else:
        first = max(timed, key=lambda r: r.nearness)
    others = (r for r in ranked if r is not first)
    return first, *sorted(others, key=lambda r: (not r.covered, not r.meets, *_place(r, demand)))


def e2e_s(record: Record, workload: Workload) -> float | None:
    """Seconds that the workload takes by these launches; None where decoding is asked for and was not measured."""
    ranking = rank([record], Demand(workloads=(workload,)))
    return ranking[0].e2e_s if ranking else None


def tied(first: Ranked, others: Iterable[Ranked], objective: Objective = Objective.LATENCY) -> tuple[str, ...]:
    """Labels of the candidates as good as `first`: within BAND of it, or with 1 inside the interval of the ratio.

    Where targets were given, only candidates that meet them are as good as another.
    """
    both = (other for other in others if first.meets and other.meets)
    return tuple(other.candidate.label for other in both if _same(first, other, objective))


def _place(ranked: Ranked, demand: Demand) -> tuple[float, ...]:
    """The less, the better, among those that all meet the targets or all do not."""
    value = demand.objective.of(ranked)
    return (value,) if ranked.meets else (*(-near for near in ranked.nearness), value)


def _same(first: Ranked, other: Ranked, objective: Objective) -> bool:
    values = objective.of(first), objective.of(other)
    if max(values) <= min(values) * (1 + BAND):
        return True
    if objective.of_launch is None:
        return False
    times_longer = ratio(other, first, objective)
    return times_longer.low <= 1.0 <= times_longer.high


def ratio(slow: Ranked, fast: Ranked, objective: Objective = Objective.LATENCY) -> Ratio:
    """How many times more `slow` takes of what the objective wants small.

    The two are compared within rounds, where a drift of the machine hits both. Where they share no round, their medians
    are compared, and the interval is that of two independent medians.
    """
    of_launch = objective.of_launch
    if of_launch is None:
        value = objective.of(slow) / objective.of(fast)
        return Ratio(value, value, value)
    turns = {launch.turn: of_launch(*times) for launch, times in zip(fast.launches, fast.times, strict=True)}
    own = [(launch.turn, of_launch(*times)) for launch, times in zip(slow.launches, slow.times, strict=True)]
    ratios = [time / turns[turn] for turn, time in own if turn in turns]
    if ratios:
        return Ratio(median(ratios), *interval(ratios, RATIO_CV))
    slow_times, fast_times = [time for _, time in own], list(turns.values())
    low, high = interval(slow_times, SHARED_CPU_CV)
    least, most = interval(fast_times, SHARED_CPU_CV)
    return Ratio(median(slow_times) / median(fast_times), low / most, high / least)


def _ranked(record: Record, demand: Demand, hull: dict[int, bool]) -> Ranked | None:
    """A candidate's times; None where the workload decodes and no launch measured decoding.

    Args:
        hull: by the id of a launch's cells, whether they bracket the workload; filled here.
    """
    workload, targets, price = demand.workload, demand.targets, demand.price_per_hour
    able = [launch for launch in record.launches if workload.output_tokens == 1 or launch.cost.step is not None]
    if not able:
        return None
    for launch in able:
        if id(launch.cells) not in hull:
            hull[id(launch.cells)] = covers(launch.cells, workload)
    # Calibrations for other uses bracket other workloads; launches that bracket this workload know it better.
    covering = [launch for launch in able if hull[id(launch.cells)]]
    chosen = covering or able
    ttfts = [launch.cost.ttft_s(workload) for launch in chosen]
    tpots = [launch.cost.tpot_s(workload) if launch.cost.step else 0.0 for launch in chosen]
    steps = workload.output_tokens - 1
    ends = [ttft + steps * tpot for ttft, tpot in zip(ttfts, tpots, strict=True)]
    ttft_s, tpot_s, e2e_s = median(ttfts), median(tpots), median(ends)
    worst = [targets.worst(ttft, tpot) for ttft, tpot in zip(ttfts, tpots, strict=True)] if targets else []
    return Ranked(
        candidate=record.candidate,
        workload=workload,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=e2e_s,
        ci95=interval(ends, SHARED_CPU_CV),
        n=len(chosen),
        memory_bytes=int(median([launch.memory_bytes for launch in chosen])),
        covered=bool(covering),
        agreement=record.agreement,
        prepare_s=record.last.prepare_s,
        artifact_bytes=record.last.artifact_bytes,
        launches=tuple(chosen),
        times=tuple(zip(ttfts, ends, strict=True)),
        chance=chance(worst, SHARED_CPU_CV) if worst else None,
        miss=targets.worst(ttft_s, tpot_s),
        costs=None if price is None else Costs.of(workload, e2e_s, price),
    )
