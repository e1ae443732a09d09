"""How far off what is told between two levels of concurrency is, and how exact a measured point is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.served.recorded import Recorded
from calibration.load.load import Load
from calibration.load.sample import Point
from calibration.measurement import Served
from selector.demand.targets import Targets
from selector.served.figures import Figures, between, figures_of

FIGURES = {
    "output_tps": "tokens a second",
    "tpot_p50_s": "TPOT p50",
    "tpot_p95_s": "TPOT p95",
    "ttft_p50_s": "TTFT p50",
    "ttft_p95_s": "TTFT p95",
}
_Z95 = 1.95996


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A level that one launch measured, beside what the form tells of it by the launch's other levels."""

    model: str
    candidate: str
    load: Load
    ratios: Mapping[str, float]
    """A name of FIGURES: told over measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactness:
    """The points of a load."""

    points: int
    void: int
    requests: tuple[int, int]
    """Of a point that is not void: the least and the median."""
    error: float | None
    """The median of their sampling errors; None where none has one."""


def told_levels(recorded: Recorded) -> list[Told]:
    """Each level between two others, left out and told by them, within one launch: launches differ by more."""
    told = []
    for record in recorded.records:
        for launch in record.launches:
            levels = _levels(launch, recorded.loads)
            for streams in sorted(levels)[1:-1]:
                figures = between({n: known for n, known in levels.items() if n != streams}, streams)
                load = next(load for load in recorded.loads if load.streams == streams)
                ratios = _ratios(figures, levels[streams])
                told.append(Told(model=recorded.name, candidate=record.candidate.label, load=load, ratios=ratios))
    return told


def sampling_error(point: Point) -> float | None:
    """Half of the 95 % interval of a closed loop's tokens a second, as a share of them; None of fewer than two answers.

    All its streams are always busy, so its tokens a second are a ratio of two sums over its requests, of tokens and of
    seconds, and the error is that of a ratio estimator (Cochran, Sampling Techniques, 1977, chapter 6). The lengths are
    taken to be drawn anew, which they are not between candidates: a comparison of two is a little more exact. What
    differs from launch to launch is not in it.
    """
    answers = [(asked.output_tokens, asked.e2e_s) for asked in point.answered]
    tokens, seconds = sum(count for count, _ in answers), math.fsum(took for _, took in answers)
    if len(answers) < 2 or seconds <= 0:
        return None
    rate = tokens / seconds
    squares = math.fsum((count - rate * took) ** 2 for count, took in answers)
    return _Z95 * math.sqrt(squares * len(answers) / (len(answers) - 1)) / tokens


def exactness(recorded: Recorded, load: Load) -> Exactness:
    """Of all points of a load."""
    points = [
        point
        for record in recorded.records
        for launch in record.launches
        for point in launch.points
        if point.load == load
    ]
    clean = [point for point in points if not point.void]
    errors = [error for point in clean if (error := sampling_error(point)) is not None]
    counts = [len(point.answered) for point in clean] or [0]
    return Exactness(
        points=len(points),
        void=len(points) - len(clean),
        requests=(min(counts), round(median(counts))),
        error=median(errors) if errors else None,
    )


def _levels(launch: Served, loads: Sequence[Load]) -> dict[int, Figures]:
    """Streams: what the launch reached; void points tell nothing."""
    memory_bytes = launch.gpu_memory_bytes or launch.peak_memory_bytes
    return {
        point.load.streams: figures_of(point, Targets(), memory_bytes)
        for point in launch.points
        if point.load in loads and not point.void
    }


def _ratios(told: Figures, known: Figures) -> dict[str, float]:
    """An answer that comes whole has no TPOT."""
    pairs = {name: (getattr(told, name), getattr(known, name)) for name in FIGURES}
    return {name: one / other for name, (one, other) in pairs.items() if one > 0 and other > 0}
