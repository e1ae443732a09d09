"""What the study times of a calibrated model, and what `select` picked there."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.study.regret import Case, slow, slower
from calibration.cache.cache import Cache
from calibration.errors import AutobackendError, UsageError
from calibration.measurement import Measurement, Outcome
from calibration.supervision.launch_spec import LaunchSpec
from calibration.workload import Workload
from selector.answer import Source
from selector.context import DEFAULT
from selector.demand.demand import Demand
from selector.evidence.evidence import evidence
from selector.evidence.ranking import Record, rank
from selector.planning.plan import Plan, plan
from selector.selection import choose

SLOW = 4.0
"""The first variant of a backend is left out where it is predicted to be more than SLOW times slower than the best; any
other candidate where it is predicted to be more than regret.NEAR times slower."""
CLASSES = {"equal precision": False, "lossy ones allowed": True}
"""Class of precision: allow_lossy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A calibrated model: its candidates, and which of them are to be timed at which workload."""

    plan: Plan
    records: dict[str, Record]
    """Candidate label: what the calibration measured, in the static order."""
    predicted: dict[str, dict[str, float]]
    """Workload label: candidate label: seconds."""
    left_out: dict[str, dict[str, float]]
    """Workload label: candidate label: predicted factor."""
    picks: dict[str, dict[str, str | None]]
    """Class: workload label: candidate label."""

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """The workloads that the model's context can hold."""
        most = self.plan.spec.max_position
        return tuple(w for w in self.plan.workloads if most == 0 or w.context_tokens <= most)

    @property
    def candidates(self) -> list[LaunchSpec]:
        return [spec for spec in self.plan.launch_specs if spec.label in self.records]

    @property
    def lossy(self) -> set[str]:
        return {spec.label for spec in self.plan.launch_specs if spec.variant.lossy}

    def cells(self, label: str) -> tuple[Workload, ...]:
        """The workloads at which a candidate is timed."""
        return tuple(w for w in self.workloads if label not in self.left_out[w.label])

    def again(self, label: str, outcomes: Sequence[Outcome]) -> tuple[Workload, ...]:
        """The workloads at which a candidate is timed in the second pass, too: where it was picked or may be the best.

        Args:
            outcomes: of the first pass.
        """
        repeated = set()
        for name, allow_lossy in CLASSES.items():
            if not allow_lossy and label in self.lossy:
                continue
            for case in cases_of(self, outcomes, name, allow_lossy=allow_lossy):
                if case.pick == label or label not in slower(case.times):
                    repeated.add(case.workload)
        return tuple(w for w in self.cells(label) if w.label in repeated)


def read_task(model: str, workloads: tuple[Workload, ...], cache: Cache) -> Task:
    """Read what the calibration measured; nothing is timed yet.

    Raises:
        UsageError: the model was not calibrated here with today's versions, or a workload is one of its cells.
    """
    planned = plan(model, workloads=workloads, allow_lossy=True)
    known = evidence(cache, planned.identity, DEFAULT.environments(planned.host))
    records = {spec.label: known.measured[spec.label] for spec in planned.launch_specs if spec.label in known.measured}
    if not records:
        raise UsageError(
            f"{model} was not calibrated here with today's versions",
            f"calibrate it: autobackend calibrate {model} --allow-lossy",
        )
    cells = {cell for record in records.values() for launch in record.launches for cell in launch.cells}
    if calibrated := sorted(w.label for w in cells.intersection(workloads)):
        raise UsageError(
            f"needs workloads that were not calibrated; found {', '.join(calibrated)} among the cells of {model}"
        )
    lossy = {spec.label for spec in planned.launch_specs if spec.variant.lossy}
    kind = planned.host.device.kind
    rankings = {w.label: rank(records.values(), Demand(workloads=(w,)), device_kind=kind) for w in workloads}
    predicted = {label: {r.candidate.label: r.e2e_s for r in ranking} for label, ranking in rankings.items()}
    picks: dict[str, dict[str, str | None]] = {name: {} for name in CLASSES}
    for name, allow_lossy in CLASSES.items():
        for workload in workloads:
            try:
                choice = choose(model, workload=workload, cache=cache, host=planned.host, allow_lossy=allow_lossy)
            except AutobackendError:
                picks[name][workload.label] = None
                continue
            measured = choice.source is Source.MEASURED
            picks[name][workload.label] = choice.candidate.label if measured else None
    return Task(
        plan=planned,
        records=records,
        predicted=predicted,
        left_out={label: slow(times, lossy, SLOW) for label, times in predicted.items()},
        picks=picks,
    )


def cases_of(task: Task, outcomes: Sequence[Outcome], name: str, *, allow_lossy: bool) -> list[Case]:
    """A case for each workload, of the candidates that compete in this class of precision."""
    competing = {spec.label for spec in task.candidates} - (set() if allow_lossy else task.lossy)
    cases = []
    for workload in task.workloads:
        times: dict[str, dict[int, float]] = {}
        for outcome in outcomes:
            if isinstance(outcome, Measurement) and outcome.candidate.label in competing:
                for cell in outcome.cells:
                    if cell.workload == workload:
                        seconds = e2e_s(workload, cell.ttft_s, cell.tpot_s)
                        times.setdefault(outcome.candidate.label, {})[outcome.round] = seconds
        cases.append(
            Case(
                model=task.plan.spec.name,
                workload=workload.label,
                times=times,
                pick=task.picks[name][workload.label],
                left_out={k: v for k, v in task.left_out[workload.label].items() if k in competing},
            )
        )
    return cases


def e2e_s(workload: Workload, ttft_s: float, tpot_s: float | None) -> float:
    """TTFT + (n - 1) * TPOT for n output tokens."""
    return ttft_s + (workload.output_tokens - 1) * (tpot_s or 0.0)
