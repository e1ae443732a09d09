"""The model of times: Gaussian processes of log seconds over hosts, models and candidates, conditioned on timings.

For each candidate, model and host the logarithms of TTFT and of TPOT are bilinear in the logarithms of prompt (context)
and batch: a level, a slope each and a cross term. Each of these eight numbers is a Gaussian process of its own, whose
covariance is a sum of products (covariance.py); their variances are estimated from the data (variances.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Self

from calibration.workload import Workload
from selector.predict.known.timing import Timing
from selector.predict.known.work import Work
from selector.predict.times.covariance import TERMS, Places, Point, covariance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

COEFFICIENTS: Final = tuple(
    f"{phase} {name}" for phase in ("ttft", "tpot") for name in ("level", "prompt", "batch", "both")
)
LAUNCH: Final = "launch"
"""Name of the variance of one launch around the candidate's own time."""

Variances = Mapping[str, Mapping[str, float]]
"""By coefficient, by term: what the shipped file keeps. A term that is not named has none."""

FLOORS: Final = {"candidate x host": 0.1**2}
"""What few hosts cannot tell and is never quite 0: a candidate may be slow on one host for a reason of its own."""

_NUGGET: Final = 1e-8
_OUTDATED: Final = 4.0
"""A launch with an older version of the engine counts as a quarter of one."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Timings as the eight numbers of each."""

    points: tuple[Point, ...]
    values: "Array"
    """[point, 8]; NaN where the cells do not tell."""
    noise: "Array"
    """[point]: variance in units of that of one launch."""

    @classmethod
    def of(cls, timings: Sequence[Timing]) -> Self:
        """Reduce each timing."""
        import numpy as np

        works = np.array([logarithms(timing.work) for timing in timings]).reshape(len(timings), len(COEFFICIENTS))
        complete = np.array([coefficients(timing) for timing in timings]).reshape(works.shape)
        told_all = complete[~np.isnan(complete).any(axis=1)]
        typical = np.median(told_all, axis=0) if len(told_all) else None
        for i in map(int, np.flatnonzero(np.isnan(complete).any(axis=1))):
            complete[i] = coefficients(timings[i], typical)
        return cls(
            tuple(Point(host=t.host, work=t.work, label=t.label) for t in timings),
            complete - works,
            np.array([(_OUTDATED if t.outdated else 1.0) / min(c.launches for c in t.cells.values()) for t in timings]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Process:
    """One of the eight numbers, conditioned."""

    places: Places
    variances: "Array"
    mean: float
    weights: "Array"
    """The inverse of the covariance of what was observed, times what was observed."""
    inverse: "Array"


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """What was observed, ready to answer."""

    processes: tuple[_Process, ...]

    @classmethod
    def given(cls, observed: Observed, variances: Variances) -> Self:
        """Condition on what was observed."""
        import numpy as np

        processes = []
        for number, name in enumerate(COEFFICIENTS):
            values = observed.values[:, number]
            told = np.flatnonzero(~np.isnan(values))
            places = Places.of([observed.points[i] for i in told])
            of_terms = np.array([variances[name].get(term, 0.0) for term in TERMS])
            [matrix] = covariance(places, places, [of_terms])
            matrix[np.diag_indices(len(told))] += variances[name][LAUNCH] * observed.noise[told] + _NUGGET
            inverse = np.linalg.inv(matrix).astype(np.float64)
            mean = float(values[told].mean())
            processes.append(_Process(places, of_terms, mean, inverse @ (values[told] - mean), inverse))
        return cls(tuple(processes))

    def at(self, points: Sequence[Point]) -> "tuple[Array, Array]":
        """Means [8, point] and covariances [8, point, point] of the eight numbers of each point."""
        import numpy as np

        asked = Places.of(points)
        means, covariances = [], []
        own = covariance(asked, asked, [process.variances for process in self.processes])
        for process, prior in zip(self.processes, own, strict=True):
            [between] = covariance(asked, process.places, [process.variances])
            means.append(process.mean + between @ process.weights)
            posterior = prior - between @ process.inverse @ between.T
            covariances.append((posterior + posterior.T) / 2)
        return np.array(means) + np.array([logarithms(point.work) for point in points]).T, np.array(covariances)


def widened(variances: Variances, models: int) -> Variances:
    """The same, none of FLOORS smaller than it says, and those by model as few models make them uncertain.

    A variance that n values tell is itself uncertain: what is predicted with it is spread as Student's t of n degrees
    of freedom, whose variance is n / (n - 2) times as large.
    """
    more = models / (models - 2) if models > 2 else 3.0
    wider = {}
    for name, of in variances.items():
        floors = FLOORS if name.endswith("level") else {}
        least = {**of, **{term: max(variance, of.get(term, 0.0)) for term, variance in floors.items()}}
        few = {term for term in least if "model" in term and "host" not in term}
        wider[name] = {term: variance * (more if term in few else 1.0) for term, variance in least.items()}
    return wider


def launch_variance(variances: Variances) -> float:
    """Of the logarithm of what one launch takes, around the candidate's own time."""
    levels = [of[LAUNCH] for name, of in variances.items() if name.endswith("level")]
    return sum(levels) / len(levels)


def logarithms(work: Work) -> tuple[float, ...]:
    """What the eight numbers are told beside: twice the work takes twice the time, but for what the processes say."""
    return math.log(work.body_parameters), 0.0, 0.0, 0.0, math.log(work.read_parameters), 0.0, 0.0, 0.0


def basis(workload: Workload, phase: int) -> tuple[float, float, float, float]:
    """1, prompt (of a decode step: its mean context), batch, both: -1 and 1 at 128 and 1024 tokens, at b1 and b4."""
    tokens = workload.prompt_tokens + (0.5 * workload.output_tokens if phase else 0.0)
    prompt, batch = (math.log2(tokens) - 8.5) / 1.5, math.log2(workload.batch) - 1.0
    return 1.0, prompt, batch, prompt * batch


def coefficients(timing: Timing, typical: "Array | None" = None) -> "Array":
    """The eight numbers of a timing, NaN where its cells do not tell them.

    Args:
        typical: what is taken for a number that the cells do not tell while the others are worked out.
    """
    import numpy as np

    values = np.full(len(COEFFICIENTS), np.nan)
    for phase in (0, 1):
        times = [(w, seconds) for w, c in timing.cells.items() if (seconds := c.tpot_s if phase else c.ttft_s)]
        if not times:
            continue
        design = np.array([basis(workload, phase) for workload, _ in times])
        logs = np.log([seconds for _, seconds in times])
        told, inverse = _solution(tuple(workload for workload, _ in times), phase)
        others = [column for column in range(4) if column not in told]
        if typical is not None and others:
            logs = logs - design[:, others] @ typical[4 * phase : 4 * phase + 4][others]
        values[[4 * phase + column for column in told]] = inverse @ logs
    return values


@lru_cache(256)
def _solution(cells: tuple[Workload, ...], phase: int) -> "tuple[tuple[int, ...], Array]":
    """Which of the four numbers the cells tell, and the matrix that gives them from the logarithms of the times."""
    import numpy as np

    design = np.array([basis(workload, phase) for workload in cells])
    told = next(columns for columns in _TOLD if np.linalg.matrix_rank(design[:, columns]) == len(columns))
    return told, np.linalg.pinv(design[:, told])


_TOLD: Final = ((0, 1, 2, 3), (0, 1, 2), (0, 1), (0, 2), (0,))
"""Which of level, prompt, batch and both are worked out: as many as the cells tell."""
