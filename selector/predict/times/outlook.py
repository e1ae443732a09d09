"""Outlook: the times of candidates as samples of their joint posterior, from which every figure of an answer comes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from calibration.workload import Workload
from selector.predict.times.times import basis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SAMPLES: Final = 1000
"""Of the joint posterior: a P(best) of 0.5 is then known to 0.016. They are the same ones in every process."""
_SEED: Final = 17
_Z90: Final = 1.645
_NUGGET: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """The candidates' times for one workload; seconds, [candidate]."""

    ttft_s: "Array"
    tpot_s: "Array"
    """0 where one token is asked for."""
    e2e_s: "Array"
    low_s: "Array"
    """What one launch takes, from here to `high_s` with 90 %."""
    high_s: "Array"
    sampled: "Array"
    """E2E, [sample, candidate]."""

    @property
    def p_best(self) -> "Array":
        """Probability that no other candidate is faster."""
        best: Array = (self.sampled <= self.sampled.min(axis=1)[:, None]).mean(axis=0)
        return best

    def regret(self, candidate: int) -> float:
        """How many times longer it is expected to take than the fastest; the geometric mean."""
        import numpy as np

        return float(np.exp(np.log(self.sampled[:, candidate] / self.sampled.min(axis=1)).mean()))

    def to_try(self) -> list[int]:
        """The candidates in the order in which to measure them: the likely fastest, then who promises most beside it.

        Each next one makes the fastest of those tried so far as fast as can be expected. So where candidates are alike
        a different one comes first that might be faster than all of them.
        """
        import numpy as np

        logs = np.log(self.sampled)
        order = [int(self.e2e_s.argmin())]
        best = logs[:, order[0]]
        left = [i for i in map(int, self.e2e_s.argsort()) if i != order[0]]
        while left:
            gains = np.minimum(best[:, None], logs[:, left]).mean(axis=0)
            following = left.pop(int(gains.argmin()))
            order.append(following)
            best = np.minimum(best, logs[:, following])
        return order


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """The eight numbers (times.COEFFICIENTS) of some candidates with one model on one host."""

    means: "Array"
    """[8, candidate]"""
    deviations: "Array"
    """[8, sample, candidate] from them."""
    launch_variance: float
    """Of the logarithm of what one launch takes around the candidate's own time."""

    @classmethod
    def of(cls, means: "Array", covariances: "Array", launch_variance: float) -> Self:
        """Draw the samples of what Times.at gives."""
        import numpy as np

        count = means.shape[1]
        normal = np.random.default_rng(_SEED).standard_normal((len(means), SAMPLES // 2, count))
        roots = np.linalg.cholesky(covariances + _NUGGET * np.eye(count))
        return cls(means, np.concatenate([normal, -normal], axis=1) @ roots.transpose(0, 2, 1), launch_variance)

    def at(self, workload: Workload) -> Expected:
        """The times for a workload."""
        import numpy as np

        logs, samples = [], []
        for phase in (0, 1):
            at = np.array(basis(workload, phase))
            part = slice(4 * phase, 4 * phase + 4)
            logs.append(at @ self.means[part])
            samples.append(logs[-1] + np.einsum("k,ksn->sn", at, self.deviations[part]))
        ttft, sampled = np.exp(logs[0]), np.exp(samples[0])
        steps = workload.output_tokens - 1
        tpot = np.exp(logs[1]) if steps else np.zeros_like(ttft)
        if steps:
            sampled += steps * np.exp(samples[1])
        e2e = ttft + steps * tpot
        half = np.exp(_Z90 * np.sqrt(np.log(sampled).var(axis=0) + self.launch_variance))
        return Expected(ttft, tpot, e2e, e2e / half, e2e * half, sampled)
