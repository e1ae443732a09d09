"""Outlook: what is believed of the workloads that were asked for, and what a launch would tell of them. No clock."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.cost import Point, fit
from calibration.race.bounds import BAND
from calibration.race.ladder.beliefs import PHASES, Beliefs, Noise
from calibration.rung import Rung
from calibration.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 2000
"""Of all times together: a probability near 0.95 is then known within 0.005."""
LOOKS = 128
"""Draws, and as many mirrored, of what a launch may show."""
STEP = 0.02
"""Logarithm by which a cell's time is moved to see how the workloads' times follow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlook:
    """A joint Gaussian of the log end-to-end seconds of all candidates on one rung, for the workloads asked."""

    beliefs: Beliefs
    workloads: tuple[Workload, ...]
    mean: "NDArray[np.float64]"
    """[label, workload]"""
    covariance: "NDArray[np.float64]"
    """Of the mean, flattened."""
    drawn: "NDArray[np.float64]"
    """[draw, label, workload]: always drawn from the same seed."""
    _along: "NDArray[np.float64]"
    """Covariance of the flattened mean with the beliefs' times."""

    @classmethod
    def on(cls, beliefs: Beliefs, rung: Rung, workloads: Sequence[Workload]) -> "Outlook":
        """The outlook on a rung."""
        import numpy as np

        size = len(beliefs.labels) * len(workloads)
        mean, slopes = np.zeros((len(beliefs.labels), len(workloads))), np.zeros((size, beliefs.mean.size))
        for number, label in enumerate(beliefs.labels):
            first = beliefs.place(label, rung, beliefs.cells[0], 0)
            times = beliefs.mean[number, beliefs.rungs.index(rung)]
            for place, workload in enumerate(workloads):
                row = number * len(workloads) + place
                mean[number, place], slopes[row, first : first + times.size] = _log_seconds(beliefs, times, workload)
        along = slopes @ beliefs.covariance
        covariance = along @ slopes.T
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        normal = np.random.default_rng(1).standard_normal((DRAWS // 2, size))
        moved = np.concatenate([normal, -normal]) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        return cls(
            beliefs=beliefs,
            workloads=tuple(workloads),
            mean=mean,
            covariance=covariance,
            drawn=mean + moved.reshape(DRAWS // 2 * 2, *mean.shape),
            _along=along,
        )

    def pick(self, labels: Collection[str]) -> tuple[str, ...]:
        """For each workload: the label with the least expected time.

        Raises:
            ValueError: there is no label.
        """
        places = [self.beliefs.labels.index(label) for label in labels]
        if not places:
            raise ValueError("needs a candidate to pick")
        return tuple(self.beliefs.labels[places[i]] for i in self.mean[places].argmin(axis=0))

    def sureness(self, picks: Sequence[str], rivals: Collection[str]) -> float:
        """The probability that every pick is within BAND of the best of its rivals, for every workload.

        Args:
            picks: one for each workload.
        """
        import numpy as np

        places = [self.beliefs.labels.index(label) for label in rivals]
        least = self.drawn[:, places].min(axis=1)
        chosen = np.stack(
            [self.drawn[:, self.beliefs.labels.index(label), number] for number, label in enumerate(picks)], axis=1
        )
        return float(np.mean(np.all(chosen <= least + math.log1p(BAND), axis=1)))

    def chances(self, rivals: Collection[str]) -> dict[str, float]:
        """Of each of the rivals: the probability to be within BAND of their best, on its best workload."""
        import numpy as np

        labels = list(rivals)
        drawn = self.drawn[:, [self.beliefs.labels.index(label) for label in labels]]
        near = drawn <= drawn.min(axis=1, keepdims=True) + math.log1p(BAND)
        return dict(zip(labels, map(float, np.max(np.mean(near, axis=0), axis=1)), strict=True))

    def times_slower(self, label: str, picks: Sequence[str]) -> tuple[float, float, float]:
        """How many times longer a candidate takes than the pick, where that is least: median and 90 % interval."""
        mine, ratios = self.beliefs.labels.index(label), list[tuple[float, float]]()
        for number, pick in enumerate(picks):
            row, other = mine * len(picks) + number, self.beliefs.labels.index(pick) * len(picks) + number
            variance = self.covariance[row, row] + self.covariance[other, other] - 2 * self.covariance[row, other]
            log = float(self.mean.flat[row] - self.mean.flat[other])
            ratios.append((log, Z90 * math.sqrt(max(0.0, float(variance)))))
        middle, half = min(ratios, key=lambda ratio: ratio[0] - ratio[1])
        return math.exp(middle), math.exp(middle - half), math.exp(middle + half)

    def gain(self, launches: Sequence[tuple[str, Rung]], groups: Sequence[Collection[str]], noise: Noise) -> float:
        """How much less the picks of the groups will probably take, in logarithms, once these launches were made.

        Args:
            launches: in a round of their own where there are several; one launch is compared with its round's.
            groups: candidates that compete.
        """
        import numpy as np

        beliefs, places, of_launch = self.beliefs, list[int](), list[int]()
        for number, (label, rung) in enumerate(launches):
            first = beliefs.place(label, rung, beliefs.cells[0], 0)
            places += range(first, first + len(beliefs.cells) * PHASES)
            of_launch += [number] * (len(beliefs.cells) * PHASES)
        numbers = np.array(of_launch)
        spread = beliefs.covariance[np.ix_(places, places)] + noise.launch_cv**2 * (numbers[:, None] == numbers)
        spread += noise.cell_cv**2 * np.eye(len(places)) + (noise.round_cv**2 if len(launches) > 1 else 0.0)
        # The means that these launches may lead to: mean + C L^-T z, where L L^T is the spread of what they show.
        moves = np.linalg.solve(np.linalg.cholesky(spread), self._along[:, places].T).T
        normal = np.random.default_rng(2).standard_normal((LOOKS, len(places)))
        moved = (normal @ moves.T).reshape(LOOKS, *self.mean.shape)
        total = 0.0
        for group in groups:
            members = [beliefs.labels.index(label) for label in group]
            mean, shift = self.mean[members], moved[:, members]
            # Mirrored, so that a launch that tells nothing gains exactly nothing.
            least = ((mean + shift).min(axis=1) + (mean - shift).min(axis=1)).mean(axis=0) / 2
            total += float((mean.min(axis=0) - least).mean())
        return max(0.0, total)


Z90 = 1.64485
"""Of a normal distribution, 90 of 100 are within so many standard deviations."""


def _log_seconds(
    beliefs: Beliefs, times: "NDArray[np.float64]", workload: Workload
) -> "tuple[float, NDArray[np.float64]]":
    """A workload's log seconds from its cells' log times, and how they follow each of these.

    Args:
        times: [cell, phase]
    """
    import numpy as np

    def log_seconds(log_times: "NDArray[np.float64]") -> float:
        points = [
            Point(cell, math.exp(ttft), math.exp(tpot) if cell.output_tokens > 1 else None)
            for cell, (ttft, tpot) in zip(beliefs.cells, log_times, strict=True)
        ]
        for cell, ttft, tpot in points:
            if (
                cell.prompt_tokens == workload.prompt_tokens
                and cell.batch == workload.batch
                and workload.output_tokens in {cell.output_tokens, 1}
            ):
                return math.log(ttft + (workload.output_tokens - 1) * (tpot or 0.0))
        return math.log(fit(points).e2e_s(workload))

    at, flat = log_seconds(times), times.ravel()
    slopes = np.zeros(flat.size)
    for place in range(flat.size):
        beside = flat.copy()
        beside[place] += STEP
        slopes[place] = (log_seconds(beside.reshape(times.shape)) - at) / STEP
    return at, slopes
