"""Rank candidates by their times for a workload."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from calibration.cost import CORNERS, Cost, corners
from calibration.measurement import Agreement, Candidate, Measurement
from calibration.noise import interval, launch_cv, ratio_cv
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.demand.price import Costs
from selector.demand.targets import chance
from selector.evidence.contender import Contender, choose_contender


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How much launches on a host differ, as CVs: their times, and the ratio of two launches of one turn."""

    launch_cv: float
    ratio_cv: float

    @classmethod
    def of(cls, device_kind: str, launches: Sequence[Sequence[Timed]], workload: Workload) -> "Spread":
        """As the launches of all candidates show it, and what is known of such devices."""
        times = [{launch.turn: launch.cost.e2e_s(workload) for launch in of_one} for of_one in launches]
        return cls(
            launch_cv=launch_cv(device_kind, [list(seconds.values()) for seconds in times]),
            ratio_cv=ratio_cv(device_kind, times),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked(Contender):
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
    corners: int
    """How many corners around the workload its cells hold, of CORNERS."""
    agreement: Agreement
    """The verdict on the output of the model that was asked about; `unchecked` where another one was timed."""
    prepare_s: float | None
    """Seconds that its conversion took, in none of the times; None where nothing is converted."""
    artifact_bytes: int | None
    launches: tuple[Timed, ...]
    times: tuple[tuple[float, float], ...]
    """(TTFT, E2E) of each launch."""
    spread: Spread
    """Of launches on this host."""
    nearest: "Ranked | None" = None
    """Its times at the nearest batch that was measured, by which it is ranked; None where its own rank it."""
    costs: Costs | None = None
    """Of a million tokens; None where the machine's price was not given."""

    @property
    def covered(self) -> bool:
        """The workload lies inside the measured cells."""
        return self.corners == CORNERS

    @property
    def ranked_by(self) -> "Ranked":
        """The times that rank it."""
        return self.nearest or self

    @property
    def distance(self) -> tuple[int, float]:
        """How far what was measured is from the workload: corners that are missing, the factor between the batches."""
        return CORNERS - self.corners, abs(math.log(self.workload.batch / self.ranked_by.workload.batch))

    @property
    def output_tps(self) -> float:
        """New tokens a second of all sequences; the time of the prefill counts."""
        return self.workload.batch * self.workload.output_tokens / self.e2e_s

    @property
    def goodput_rps(self) -> float:
        """Sequences a second. Whether they meet targets decides before this is asked."""
        return self.workload.batch / self.e2e_s

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
            "ranked_by": self.ranked_by.workload.label,
            "output": str(self.agreement.verdict),
            "kl": self.agreement.kl,
            "prepare_s": self.prepare_s,
            "artifact_bytes": self.artifact_bytes,
            "chance": self.chance,
            "cost_per_million_output": self.costs and self.costs.output,
            "cost_per_million_total": self.costs and self.costs.total,
        }


def rank(records: Iterable[Record], demand: Demand, *, device_kind: str) -> tuple[Ranked, ...]:
    """The candidates that were measured: the choice first, the others by the objective.

    Candidates that meet the demand's targets come first. Those that do not are in the order of the probability that
    they do, and where none of all does, the choice is the most probable of them.

    The median decides. Of the candidates within BAND of the best median, the choice is the first in `records`, which is
    the static order. Candidates whose cells hold more corners around the workload come before the others: a launch that
    a budget cut short has the cheap cells only.

    Beyond the batches that were measured, the nearest of them ranks on an accelerator, and the fitted cost on a CPU. In
    a published table (argonne-lcf/LLM-Inference-Bench, without the rows that are wrong there) picks for batches of 16
    and more by cells of batch 1 alone take 1.22 times as long as the best where times are extrapolated, since the
    growth with the context that batch 1 shows is multiplied by the batch, and 1.013 where batch 1 itself ranks; from 16
    to 32 and 64 it is 1.010 and 1.006. On the CPUs of results/ from batch 1 to 4 it is 1.003 extrapolated and 1.023 by
    the nearest. The times that are told are extrapolated on both.

    Args:
        device_kind: Device.kind of the host that measured them.
    """
    held: dict[int, int] = {}
    chosen = [(record, launches) for record in records if (launches := _knowing(record, demand.workload, held))]
    spread = Spread.of(device_kind, [launches for _, launches in chosen], demand.workload)
    ranked = []
    for record, launches in chosen:
        own = _ranked(record, launches, demand, held[id(launches[0].cells)], spread)
        batch = own.workload.batch if device_kind == "cpu" else _nearest_batch(launches, own.workload.batch)
        if batch != own.workload.batch:
            near = demand.for_one(replace(own.workload, batch=batch))
            own = replace(own, nearest=_ranked(record, launches, near, own.corners, spread))
        ranked.append(own)
    if not ranked:
        return ()
    least_distance = min(r.distance for r in ranked)
    timed = [r for r in ranked if r.distance == least_distance]
    first = choose_contender(timed, lambda r: demand.objective.of(r.ranked_by))
    others = (r for r in ranked if r is not first)
    return first, *sorted(others, key=lambda r: (r.distance, not r.meets, *_place(r, demand)))


def e2e_s(record: Record, workload: Workload) -> float | None:
    """Seconds that the workload takes by these launches; None where decoding is asked for and was not measured."""
    launches = _knowing(record, workload, {})
    return median(launch.cost.e2e_s(workload) for launch in launches) if launches else None


def _place(ranked: Ranked, demand: Demand) -> tuple[float, ...]:
    """The less, the better, among those that all meet the targets or all do not."""
    value = demand.objective.of(ranked.ranked_by)
    return (value,) if ranked.meets else (*(-near for near in ranked.nearness), value)


def _knowing(record: Record, workload: Workload, held: dict[int, int]) -> list[Timed]:
    """The launches that know the workload best; none where it decodes and no launch measured decoding.

    Calibrations for other uses bracket other workloads; launches with more corners around this workload know it better.

    Args:
        held: by the id of a launch's cells, how many corners they hold; filled here.
    """
    able = [launch for launch in record.launches if workload.output_tokens == 1 or launch.cost.step is not None]
    for launch in able:
        if id(launch.cells) not in held:
            held[id(launch.cells)] = corners(launch.cells, workload)
    most = max((held[id(launch.cells)] for launch in able), default=0)
    return [launch for launch in able if held[id(launch.cells)] == most]


def _nearest_batch(launches: Iterable[Timed], batch: int) -> int:
    """`batch` where it lies between measured ones, else the nearest of them."""
    batches = [cell.batch for launch in launches for cell in launch.cells]
    return min(max(batch, min(batches)), max(batches))


def _ranked(record: Record, launches: Sequence[Timed], demand: Demand, held: int, spread: Spread) -> Ranked:
    """A candidate's times by some of its launches."""
    workload, targets, price = demand.workload, demand.targets, demand.price_per_hour
    ttfts = [launch.cost.ttft_s(workload) for launch in launches]
    tpots = [launch.cost.tpot_s(workload) if launch.cost.step else 0.0 for launch in launches]
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
        ci95=interval(ends, spread.launch_cv),
        n=len(launches),
        memory_bytes=int(median([launch.memory_bytes for launch in launches])),
        corners=held,
        agreement=record.agreement,
        prepare_s=record.last.prepare_s,
        artifact_bytes=record.last.artifact_bytes,
        launches=tuple(launches),
        times=tuple(zip(ttfts, ends, strict=True)),
        spread=spread,
        chance=chance(worst, spread.launch_cv) if worst else None,
        miss=targets.worst(ttft_s, tpot_s),
        costs=None if price is None else Costs.of(workload, e2e_s, price),
    )
