"""Timing: what the launches of one candidate on one host say of one model, distilled to medians."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from calibration.measurement import Measurement
from calibration.workload import Workload
from selector.predict.known.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host, as far as the times of its candidates depend on it."""

    identifier: str
    kind: str
    """Of the device that runs models: `cpu`, `cuda` ..."""
    device: str
    """Its name."""
    cpu_name: str
    cpu_features: frozenset[str]
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTimes:
    """Medians over the launches that timed a cell; seconds."""

    launches: int
    ttft_s: float
    tpot_s: float | None
    ttft_spread: float
    """Largest over least of the launches; 1 where there is one."""
    tpot_spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The launches of a candidate, a model and a host that ran in one environment."""

    host: Host
    model: str
    """As it was named: `shape:NAME`."""
    work: Work
    label: str
    """Of the candidate."""
    cells: Mapping[Workload, CellTimes]
    environment: Mapping[str, str]
    outdated: bool = False
    """A newer version of the engine was timed as well: it counts less."""
    output: str
    """The verdict on its output: right, lossy, unchecked."""
    kl: float | None
    memory_bytes: int
    newest: float
    """Unix time of the newest launch."""
    calibrations: frozenset[str]
    """First eight digits of the calibrations that the launches belong to."""


def cell_times(measurements: Iterable[Measurement]) -> dict[Workload, CellTimes]:
    """The median of the launches for each cell; of a launch the median of its clean samples."""
    by_cell: dict[Workload, list[tuple[float, float | None]]] = {}
    for measurement in measurements:
        for cell in measurement.cells:
            if cell.ttft_s > 0.0:
                by_cell.setdefault(cell.workload, []).append((cell.ttft_s, cell.tpot_s))
    return {workload: _summary(times) for workload, times in sorted(by_cell.items())}


def _summary(times: list[tuple[float, float | None]]) -> CellTimes:
    ttfts = [ttft for ttft, _ in times]
    tpots = [tpot for _, tpot in times if tpot is not None and tpot > 0.0]
    return CellTimes(
        launches=len(times),
        ttft_s=median(ttfts),
        tpot_s=median(tpots) if tpots else None,
        ttft_spread=max(ttfts) / min(ttfts),
        tpot_spread=max(tpots) / min(tpots) if tpots else 1.0,
    )
