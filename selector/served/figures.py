"""What a launch reached under a load, and what it would reach between the levels of concurrency that were measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median
from typing import Any

from calibration.load.sample import Figure, Point, RequestTargets
from selector.demand.targets import Targets

_TIMES = ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s", "e2e_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one load; an objective values them. Times are seconds, and infinite where requests came faster than the server
    answers them: they then wait ever longer.
    """

    ttft_p50_s: float
    ttft_p95_s: float
    tpot_p50_s: float
    tpot_p95_s: float
    e2e_s: float
    """Of half of the requests: from when one was due to its last token."""
    output_tps: float
    """New tokens a second of all requests."""
    request_rps: float
    """Requests that were answered, a second."""
    attainment: float
    """Share of the requests that met the targets; 1 where there are none."""
    memory_bytes: int

    @property
    def ttft_s(self) -> float:
        """What 95 of 100 requests keep: a server is judged by those that wait."""
        return self.ttft_p95_s

    @property
    def tpot_s(self) -> float:
        """What 95 of 100 requests keep."""
        return self.tpot_p95_s

    @property
    def goodput_rps(self) -> float:
        """Requests a second that met the targets."""
        return self.request_rps * self.attainment

    def to_json(self) -> dict[str, Any]:
        """Times are null where they are infinite."""
        times = {name: value if isfinite(value := getattr(self, name)) else None for name in _TIMES}
        return {
            **times,
            "output_tps": self.output_tps,
            "request_rps": self.request_rps,
            "goodput_rps": self.goodput_rps,
            "attainment": self.attainment,
            "memory_bytes": self.memory_bytes,
        }


def figures_of(point: Point, targets: Targets, memory_bytes: int) -> Figures:
    """The figures of a load as one launch measured it."""
    share = point.attainment(RequestTargets(ttft_s=targets.ttft_s, tpot_s=targets.tpot_s)).value
    return Figures(
        ttft_p50_s=_told(point, Figure.TTFT, 50),
        ttft_p95_s=_told(point, Figure.TTFT, 95),
        tpot_p50_s=_told(point, Figure.TPOT, 50),
        tpot_p95_s=_told(point, Figure.TPOT, 95),
        e2e_s=_told(point, Figure.E2E, 50),
        output_tps=point.output_tps or 0.0,
        request_rps=point.request_rate or 0.0,
        attainment=0.0 if point.saturated else share or 0.0,
        memory_bytes=point.peak_gpu_memory_bytes or point.peak_memory_bytes or memory_bytes,
    )


def middle(figures: list[Figures]) -> Figures:
    """The median of each figure over launches."""
    names = (*_TIMES, "output_tps", "request_rps", "attainment")
    return Figures(
        **{name: median(getattr(one, name) for one in figures) for name in names},
        memory_bytes=int(median(one.memory_bytes for one in figures)),
    )


def between(levels: Mapping[int, Figures], streams: int) -> Figures:
    """The figures with so many streams, by those at measured levels: at least two.

    What a stream waits grows with the streams beside it as a + b n: once a server is busy each of them adds its own
    work to every step, and prompts queue for one another. So each time is drawn straight from level to level, and
    beyond the last along the last two; the throughput n / (a + b n), of tokens and of requests, then nears its limit
    1 / b.
    """
    low, high = _around(sorted(levels), streams)
    one, other = levels[low], levels[high]

    def straight(at_low: float, at_high: float) -> float:
        slope = max(0.0, (at_high - at_low) / (high - low))
        return max(0.0, at_low + slope * (streams - low))

    def saturating(at_low: float, at_high: float) -> float:
        each_s = straight(low / at_low, high / at_high) if at_low and at_high else 0.0
        return streams / each_s if each_s else 0.0

    times = {name: straight(getattr(one, name), getattr(other, name)) for name in _TIMES}
    share = one.attainment + (other.attainment - one.attainment) * (streams - low) / (high - low)
    return Figures(
        **times,
        output_tps=saturating(one.output_tps, other.output_tps),
        request_rps=saturating(one.request_rps, other.request_rps),
        attainment=min(1.0, max(0.0, share)),
        memory_bytes=int(straight(one.memory_bytes, other.memory_bytes)),
    )


def error_of(levels: Mapping[int, Figures]) -> float | None:
    """How far off the form is at most where a measured level is told by its neighbours: of TPOT and of the throughput.

    None where there are fewer than three levels: two say nothing of it.
    """
    inner = sorted(levels)[1:-1]
    off = []
    for level in inner:
        told = between({n: figures for n, figures in levels.items() if n != level}, level)
        known = levels[level]
        off += [abs(told.output_tps / known.output_tps - 1.0)] if known.output_tps else []
        off += [abs(told.tpot_p50_s / known.tpot_p50_s - 1.0)] if known.tpot_p50_s else []
    return max(off, default=None)


def _around(levels: list[int], streams: int) -> tuple[int, int]:
    """The two levels that a line is drawn through: those around it, or the nearest two."""
    above = next((place for place, level in enumerate(levels) if level >= streams), len(levels) - 1)
    place = max(1, above)
    return levels[place - 1], levels[place]


def _told(point: Point, figure: Figure, percent: float) -> float:
    """Infinite where the point is saturated; 0 where one token was asked for, so that there is no TPOT."""
    return inf if point.saturated else point.percentile(figure, percent) or 0.0
