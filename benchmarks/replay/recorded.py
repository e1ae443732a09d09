"""The launches of one calibration that a host recorded, as policies are replayed over them."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from calibration.conversion.estimate import estimate
from calibration.cost import Point, fit
from calibration.launch.timing import LONG_CALL_S, WARM_UP_TOKENS
from calibration.measurement import Measurement
from calibration.registry import find
from calibration.workload import Workload
from selector.model.spec import ModelSpec
from selector.publish.hosts.host_file import HostResults, read

LEAST = 5
"""A calibration of fewer candidates is no race."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One calibration: its launches, those that earlier ones of the same model left for it not counted."""

    host: str
    machine: str
    model: str
    launches: Mapping[str, Sequence[Measurement]]
    """Candidate label, in the static order: its launches, oldest first."""

    @cached_property
    def cells(self) -> tuple[Workload, ...]:
        return max((tuple(c.workload for c in m.cells) for ms in self.launches.values() for m in ms), key=len)

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """What was asked for: the cells bracket the first and the last."""
        return self.cells[0], self.cells[-1]

    @cached_property
    def lossy(self) -> frozenset[str]:
        return frozenset(x for x in self.launches if find(x.partition(":")[0]).variant(x.partition(":")[2]).lossy)

    @cached_property
    def spec(self) -> ModelSpec:
        return ModelSpec.read(self.model)

    def seconds(self, label: str, workload: Workload) -> float:
        """The median of a candidate's launches; infinite where none of them covers the workload's cell."""
        ends = []
        for launch in self.launches[label]:
            points = [Point(c.workload, c.ttft_s, c.tpot_s) for c in launch.cells]
            own = [ttft + (w.output_tokens - 1) * (tpot or 0.0) for w, ttft, tpot in points if w == workload]
            if own or len(points) == len(self.cells):
                ends += own or [fit(points).e2e_s(workload)]
        return median(ends) if ends else math.inf

    def regret(self, pick: str, workload: Workload, labels: Collection[str]) -> float:
        """The pick's time over that of the best of these candidates."""
        return self.seconds(pick, workload) / min(self.seconds(label, workload) for label in labels)

    def conversion(self, label: str) -> tuple[str, str]:
        """What is converted once: variants share it where they are prepared alike."""
        backend, _, name = label.partition(":")
        return backend, find(backend).variant(name).prepared_as or name

    def converting_s(self, label: str) -> float:
        """What the conversion took; 0 where nothing is converted."""
        return max((m.prepare_s or 0.0 for m in self.launches[label]), default=0.0)

    def expected_converting_s(self, label: str) -> float:
        """What the program would have said before."""
        backend = find(label.partition(":")[0])
        variant = backend.variant(label.partition(":")[2])
        if not variant.prepares:
            return 0.0
        spec = self.spec
        return estimate(
            backend.name,
            variant,
            parameters=spec.parameters,
            dtype=spec.dtype,
            time=backend.facts.prepare_time,
            memory=backend.facts.prepare_memory_of(variant),
            known=(),
        ).seconds


def launch_s(launch: Measurement) -> float:
    """What a launch took: its load, its cells with their warm-ups; a sample that was repeated counts once."""
    total = launch.load_s
    for cell in launch.cells:
        calls = [s.ttft_s + (cell.workload.output_tokens - 1) * (s.tpot_s or 0.0) for s in cell.samples]
        warm_up = cell.ttft_s + WARM_UP_TOKENS * (cell.tpot_s or 0.0) if cell.ttft_s < LONG_CALL_S else 0.0
        total += sum(calls) + warm_up
    return total


def recorded(folder: Path) -> list[Recorded]:
    """Of each host and shape the calibration with the most launches."""
    return [race for path in sorted(folder.glob("*.json")) for race in _of_host(read(path))]


def _of_host(results: HostResults) -> Iterable[Recorded]:
    races: dict[str, dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for outcome in results.outcomes:
        if isinstance(outcome, Measurement) and outcome.model.startswith("shape:") and not outcome.identity.cut:
            races[outcome.model][outcome.calibration_id].append(outcome)
    for model, calibrations in sorted(races.items()):
        order = [verdict.label for verdict in results.verdicts[model]]
        launches = max(calibrations.values(), key=len)
        by_label: dict[str, list[Measurement]] = defaultdict(list)
        for launch in sorted(launches, key=lambda m: m.started_at):
            by_label[launch.candidate.label].append(launch)
        if len(by_label) >= LEAST:
            in_order = {label: by_label[label] for label in sorted(by_label, key=order.index)}
            yield Recorded(host=results.host, machine=results.machine, model=model, launches=in_order)
