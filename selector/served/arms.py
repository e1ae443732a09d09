"""What is known of a candidate under a load, for each number of threads: measured, or told by other levels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from calibration.load.load import Load
from calibration.load.sample import Point
from calibration.measurement import Served
from selector.demand.targets import Targets
from selector.served.evidence import ServedRecord
from selector.served.figures import Figures, between, error_of, figures_of, middle


class Way(StrEnum):
    """How figures of a load are known."""

    MEASURED = "measured"
    INTERPOLATED = "interpolated"
    """Between two levels of concurrency, of the same lengths."""
    EXTRAPOLATED = "extrapolated"
    """Beyond them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLaunch:
    """The figures of one launch."""

    turn: tuple[str, int]
    """Launches of the same turn ran close to each other in time, so their figures are compared."""
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A candidate with so many threads."""

    slots: int
    threads: int
    launches: tuple[ServedLaunch, ...]
    way: Way = Way.MEASURED
    error: float | None = None
    void: bool = False


def arms_of(record: ServedRecord, load: Load, targets: Targets) -> list[Arm]:
    """What is known of the load, for each number of threads: measured where it was, else told by other levels."""
    by_threads: dict[int, list[Served]] = {}
    for launch in record.launches:
        by_threads.setdefault(launch.threads, []).append(launch)
    arms = [
        (_measured(launches, load, targets) or _by_levels(launches, load, targets)) for launches in by_threads.values()
    ]
    return [arm for arm in arms if arm is not None]


def _measured(launches: Sequence[Served], load: Load, targets: Targets) -> Arm | None:
    known = [(launch, point) for launch in launches if (point := _point(launch, load))]
    if not known:
        return None
    clean = [(launch, point) for launch, point in known if not point.void]
    last = known[-1][0]
    return Arm(
        slots=last.slots,
        threads=last.threads,
        launches=tuple(_turn(launch, point, targets) for launch, point in clean or known),
        void=not clean,
    )


def _by_levels(launches: Sequence[Served], load: Load, targets: Targets) -> Arm | None:
    """By the levels of concurrency that were measured with the load's lengths: two or more, of a closed loop.

    Void points count only where the others are not of two levels.
    """
    if not load.closed:
        return None
    taken = [
        (launch, point)
        for launch in launches
        for point in launch.points
        if point.load.closed and (point.load.prompt, point.load.output) == (load.prompt, load.output)
    ]
    clean = [(launch, point) for launch, point in taken if not point.void]
    void = len({point.load for _, point in clean}) < 2
    levels: dict[int, list[Figures]] = {}
    turns: dict[int, list[tuple[str, int]]] = {}
    for launch, point in taken if void else clean:
        turn = _turn(launch, point, targets)
        levels.setdefault(point.load.streams, []).append(turn.figures)
        turns.setdefault(point.load.streams, []).append(turn.turn)
    if len(levels) < 2:
        return None
    middles = {streams: middle(figures) for streams, figures in levels.items()}
    told = between(middles, load.streams)
    # How launches differ, the nearest level shows: its own spread around what is told.
    near = min(levels, key=lambda streams: (abs(math.log(streams / load.streams)), streams))
    spread = tuple(
        ServedLaunch(turn=turn, figures=_scaled(told, one.output_tps / middles[near].output_tps))
        for turn, one in zip(turns[near], levels[near], strict=True)
        if middles[near].output_tps
    )
    if not spread:
        return None
    inside = min(levels) <= load.streams <= max(levels)
    return Arm(
        slots=load.streams,
        threads=launches[-1].threads,
        launches=spread,
        way=Way.INTERPOLATED if inside else Way.EXTRAPOLATED,
        error=error_of(middles),
        void=void,
    )


def _point(launch: Served, load: Load) -> Point | None:
    """The launch's point of a load; of several the first that is not void."""
    points = sorted((point for point in launch.points if point.load == load), key=lambda point: bool(point.void))
    return points[0] if points else None


def _turn(launch: Served, point: Point, targets: Targets) -> ServedLaunch:
    memory_bytes = launch.gpu_memory_bytes or launch.peak_memory_bytes
    return ServedLaunch(turn=(launch.calibration_id, launch.round), figures=figures_of(point, targets, memory_bytes))


def _scaled(figures: Figures, faster: float) -> Figures:
    """The figures of a launch that is so many times as fast."""
    return replace(
        figures,
        ttft_p50_s=figures.ttft_p50_s / faster,
        ttft_p95_s=figures.ttft_p95_s / faster,
        tpot_p50_s=figures.tpot_p50_s / faster,
        tpot_p95_s=figures.tpot_p95_s / faster,
        e2e_s=figures.e2e_s / faster,
        output_tps=figures.output_tps * faster,
        request_rps=figures.request_rps * faster,
    )
