"""The figures of a matrix: what each view shows of a variant for a workload, and which of them is best."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from calibration.measurement import Measurement, Outcome
from calibration.race.bounds import BAND
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.evidence.comparison import tied
from selector.evidence.ranking import Ranked, Record, rank
from selector.screens.text import Observed, decode, prefill


class View(StrEnum):
    """What of a measurement is shown."""

    END_TO_END = "end to end"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The median of the launches and half of its interval.

    END_TO_END is in seconds, the other views in tokens of the whole batch a second.
    """

    median: float
    half: float
    share: float
    """How good it is beside the row's best, 0 to 1: the length of its bar."""
    best: bool
    tied: bool
    """As fast as the best."""
    estimated: bool
    """Computed from the fitted cost; the workload itself was not timed."""
    extrapolated: bool


def figures_of(
    records: Mapping[str, Record],
    outcomes: Mapping[str, Sequence[Outcome]],
    may_win: Sequence[str],
    workloads: Sequence[Workload],
    device_kind: str,
) -> dict[str, dict[tuple[View, str], Figure]]:
    """Figures of every view and workload, by candidate label.

    Args:
        may_win: labels of those that `select` may choose, in the static order; only they are best or tied.
    """
    figures: dict[str, dict[tuple[View, str], Figure]] = {label: {} for label in records}
    for workload in workloads:
        ranking = rank(records.values(), Demand(workloads=(workload,)), device_kind=device_kind)
        ranked = {r.candidate.label: r for r in ranking}
        for view in View:
            values = {
                label: v for label, r in ranked.items() if (v := _values(view, workload, r, outcomes.get(label, ())))[0]
            }
            for label, figure in _compared(view, values, ranked, may_win).items():
                figures[label][view, workload.label] = figure
    return figures


def _values(view: View, workload: Workload, ranked: Ranked, outcomes: Sequence[Outcome]) -> tuple[Observed, bool]:
    """A value for each launch (of a single launch each sample's, where the cell was timed); are they estimated."""

    def estimated(values: Iterable[float]) -> tuple[Observed, bool]:
        return Observed(values=tuple(values), launch_cv=ranked.spread.launch_cv), True

    turns = {launch.turn for launch in ranked.launches}
    measured = [o for o in outcomes if isinstance(o, Measurement) and (o.calibration_id, o.round) in turns]
    if view is not View.END_TO_END:
        of_view = prefill if view is View.PREFILL else decode
        timed = of_view(measured, workload, ranked.spread.launch_cv)
        if timed:
            return timed, False
    if view is View.PREFILL:
        tokens = workload.prompt_tokens * workload.batch
        return estimated(tokens / ttft for ttft, _ in ranked.times if ttft > 0)
    if view is View.DECODE:
        steps = workload.output_tokens - 1
        tokens = steps * workload.batch
        return estimated(tokens / (e2e - ttft) for ttft, e2e in ranked.times if e2e > ttft and steps)
    exact = any(workload == cell for launch in ranked.launches for cell in launch.cells)
    return estimated(e2e for _, e2e in ranked.times)[0], not exact


def _compared(
    view: View,
    values: Mapping[str, tuple[Observed, bool]],
    ranked: Mapping[str, Ranked],
    may_win: Sequence[str],
) -> dict[str, Figure]:
    medians = {label: observed.median for label, (observed, _) in values.items()}
    halves = {label: observed.half_width for label, (observed, _) in values.items()}
    smaller = view is View.END_TO_END
    able = [label for label in may_win if label in medians]
    best = min(able, key=lambda label: medians[label] if smaller else -medians[label], default=None)
    as_fast: set[str] = set()
    if best is not None and smaller:
        # What `select` says: the first of the static order inside the band, and a tie where launches cannot tell.
        close = [label for label in able if medians[label] <= medians[best] * (1 + BAND)]
        best = close[0]
        as_fast = set(tied(ranked[best], (ranked[label] for label in able if label != best)))
    elif best is not None:
        least = medians[best] - halves[best]
        as_fast = {
            label
            for label in able
            if label != best
            and (medians[label] * (1 + BAND) >= medians[best] or medians[label] + halves[label] >= least)
        }
    top = medians[best] if best is not None else (min if smaller else max)(medians.values(), default=0.0)
    return {
        label: Figure(
            median=medians[label],
            half=halves[label],
            share=min(1.0, top / medians[label] if smaller else medians[label] / top) if top > 0 else 0.0,
            best=label == best,
            tied=label in as_fast,
            estimated=values[label][1],
            extrapolated=not ranked[label].covered,
        )
        for label in medians
    }
