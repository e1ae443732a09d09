"""Beliefs: what is believed of all candidates' times before and during a race, a joint Gaussian of log seconds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from calibration.noise import HOST_WEIGHT, SHARED_CPU_CV, prior_cv
from calibration.rung import Rung
from calibration.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PHASES = 2
"""Of a cell: TTFT, TPOT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far the times of one launch are from the candidate's own; coefficients of variation."""

    launch_cv: float = SHARED_CPU_CV
    """Between processes of one candidate: common to all cells of a launch."""
    cell_cv: float = 0.05
    """Of one cell, beside that: two repeats inside one process differ by as much."""
    round_cv: float = 0.10
    """Of the machine between rounds: common to all launches of one. On shared hosts the same launch an hour later is
    10 % slower or faster."""

    @classmethod
    def of(cls, device_kind: str) -> "Noise":
        """Before any launch was seen: a GPU of one's own is steadier than a CPU that others share."""
        return cls() if device_kind == "cpu" else cls(launch_cv=prior_cv(device_kind), cell_cv=0.02, round_cv=0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The times of one launch."""

    label: str
    rung: Rung
    round: int
    """Launches of the same rung and round share what the machine was like meanwhile."""
    times: Mapping[Workload, tuple[float, float | None]]
    """Cell: TTFT and TPOT, seconds."""


def learned(noise: Noise, launches: Sequence[Observation]) -> Noise:
    """The noise that launches show, which begins as the prior's: how candidates differ from themselves between rounds.

    What a round has in common is taken out first, as far as the candidates that were launched in several show it.
    """
    levels: dict[tuple[str, Rung], dict[int, float]] = {}
    cells = set.intersection(*(set(launch.times) for launch in launches)) if launches else set()
    for launch in launches:
        logs = [math.log(seconds) for cell in cells for seconds in launch.times[cell] if seconds]
        if logs:
            levels.setdefault((launch.label, launch.rung), {})[launch.round] = sum(logs) / len(logs)
    again = {key: rounds for key, rounds in levels.items() if len(rounds) > 1}
    own = {key: sum(rounds.values()) / len(rounds) for key, rounds in again.items()}
    drift: dict[tuple[Rung, int], list[float]] = {}
    for (label, rung), rounds in again.items():
        for number, level in rounds.items():
            drift.setdefault((rung, number), []).append(level - own[label, rung])
    left = [
        level - own[label, rung] - sum(drift[rung, number]) / len(drift[rung, number])
        for (label, rung), rounds in again.items()
        for number, level in rounds.items()
    ]
    freedom = max(0, len(left) - len(again) - len(drift) + len({rung for _, rung in again}))
    squares = HOST_WEIGHT * noise.launch_cv**2 + sum(x * x for x in left)
    return replace(noise, launch_cv=math.sqrt(squares / (HOST_WEIGHT + freedom)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beliefs:
    """A joint Gaussian of the log seconds of all candidates, on all rungs and cells."""

    labels: tuple[str, ...]
    rungs: tuple[Rung, ...]
    """Shallow first, the whole model last."""
    cells: tuple[Workload, ...]
    mean: "NDArray[np.float64]"
    """[label, rung, cell, phase]: log TTFT and log TPOT; that of a cell with one output token is not used."""
    covariance: "NDArray[np.float64]"
    """Of the mean, flattened: [n, n]."""
    informed: bool = True
    """It tells candidates apart: one that it thinks slow may be left out of a race, and else only what was seen may."""

    def given(self, launches: Sequence[Observation], noise: Noise | None = None) -> "Beliefs":
        """What is believed once launches were seen.

        Args:
            noise: that of a shared CPU where none is named.
        """
        import numpy as np

        places, values, covariance = self._seen(launches, noise or Noise())
        if not places:
            return self
        mean = self.mean.ravel()
        between = self.covariance[:, places]
        # Gain K = C_xy (C_yy + N)^-1: solved, not inverted.
        gain = np.linalg.solve(self.covariance[np.ix_(places, places)] + covariance, between.T).T
        conditioned = self.covariance - gain @ between.T
        return replace(
            self,
            mean=(mean + gain @ (np.array(values) - mean[places])).reshape(self.mean.shape),
            covariance=(conditioned + conditioned.T) / 2,
        )

    def log_likelihood(self, launches: Sequence[Observation], noise: Noise) -> float:
        """How likely the launches are together; but for a constant that depends on their number alone."""
        import numpy as np

        places, values, covariance = self._seen(launches, noise)
        covariance += self.covariance[np.ix_(places, places)]
        off = np.array(values) - self.mean.ravel()[places]
        return float(-(off @ np.linalg.solve(covariance, off) + np.linalg.slogdet(covariance)[1]) / 2)

    def among(self, labels: Sequence[str]) -> "Beliefs":
        """Of some of the candidates.

        Raises:
            ValueError: there is no such label.
        """
        import numpy as np

        if tuple(labels) == self.labels:
            return self
        numbers = [self.labels.index(label) for label in labels]
        size = self.mean[0].size
        places = np.array([number * size + i for number in numbers for i in range(size)], dtype=np.intp)
        return replace(
            self,
            labels=tuple(labels),
            mean=self.mean[np.array(numbers, dtype=np.intp)],
            covariance=self.covariance[np.ix_(places, places)],
        )

    def place(self, label: str, rung: Rung, cell: Workload, phase: int) -> int:
        """Of a time in the flattened mean.

        Raises:
            ValueError: there is no such label, rung or cell.
        """
        place = self.labels.index(label) * len(self.rungs) + self.rungs.index(rung)
        return (place * len(self.cells) + self.cells.index(cell)) * PHASES + phase

    def _seen(
        self, launches: Sequence[Observation], noise: Noise
    ) -> "tuple[list[int], list[float], NDArray[np.float64]]":
        """Of all times of the launches: places in the mean, logarithms, and the covariance of their noise."""
        import numpy as np

        places, values, of_launch, of_round = list[int](), list[float](), list[int](), list[tuple[Rung, int]]()
        for number, launch in enumerate(launches):
            for cell, times in launch.times.items():
                for phase, seconds in enumerate(times):
                    if seconds is not None and seconds > 0.0:
                        places.append(self.place(launch.label, launch.rung, cell, phase))
                        values.append(math.log(seconds))
                        of_launch.append(number)
                        of_round.append((launch.rung, launch.round))
        numbers = np.array(of_launch)
        rounds = np.array([list(dict.fromkeys(of_round)).index(r) for r in of_round])
        covariance = (
            noise.launch_cv**2 * (numbers[:, None] == numbers[None, :])
            + noise.round_cv**2 * (rounds[:, None] == rounds[None, :])
            + noise.cell_cv**2 * np.eye(len(places))
        )
        return places, values, covariance

    @classmethod
    def vague(cls, labels: Sequence[str], rungs: Sequence[Rung], cells: Sequence[Workload]) -> "Beliefs":
        """Where nothing is known: how fast this model runs here, and who is fast.

        What is believed all the same is how much alike things are: a candidate that is slow on one cell is slow on
        others, and who is slow on a few layers is slow on the whole model.
        """
        import numpy as np

        mean = np.zeros((len(labels), len(rungs), len(cells), PHASES))
        parts, tokens = [rung.layers / rung.of for rung in rungs], [cell.prompt_tokens * cell.batch for cell in cells]
        mean[..., 0] = np.log(np.outer(parts, tokens) * SECONDS_A_TOKEN)
        mean[..., 1] = np.log(parts)[:, None] + math.log(SECONDS_A_STEP)
        phase, cell, rung, label = np.eye(PHASES), np.eye(len(cells)), np.eye(len(rungs)), np.eye(len(labels))
        all_phases, all_cells = np.ones_like(phase), np.ones_like(cell)
        # How far apart whole and cut models are: none for the whole, more for each halving of the layers.
        halvings = np.array([math.log2(r.of / r.layers) for r in rungs])
        along = np.minimum(halvings[:, None], halvings[None, :])
        own = (
            np.kron(np.kron(np.ones_like(rung), all_cells), CANDIDATE_SD**2 * all_phases + PHASE_SD**2 * phase)
            + np.kron(np.kron(np.ones_like(rung), cell), CELL_SD**2 * phase)
            + np.kron(np.kron(along, all_cells), HALVING_SD**2 * (all_phases + phase) / 2)
        )
        of_backend = np.kron(np.kron(np.ones_like(rung), all_cells), BACKEND_SD**2 * (all_phases + phase))
        of_all = SCALE_SD**2 * np.kron(np.kron(rung, cell), phase)
        backends = [name.partition(":")[0] for name in labels]
        alike = np.array([[float(one == other) for other in backends] for one in backends])
        covariance = np.kron(np.ones_like(label), of_all) + np.kron(alike, of_backend) + np.kron(label, own)
        return cls(
            labels=tuple(labels),
            rungs=tuple(rungs),
            cells=tuple(cells),
            mean=mean,
            covariance=np.asarray(covariance, dtype=np.float64),
            informed=False,
        )


SECONDS_A_TOKEN, SECONDS_A_STEP = 0.002, 0.03
"""Of a model of half a billion parameters on two cores, in the middle of results/: where a guess begins."""
SCALE_SD = 3.0
"""How fast a model runs on a machine that nobody has seen: within a factor of 400, in logarithms."""
BACKEND_SD, CANDIDATE_SD, PHASE_SD, CELL_SD = 0.32, 0.22, 0.32, 0.15
"""How far candidates are apart in logarithms: what a backend's have in common, in all they do and once more in prefill
and in decoding; what is one candidate's own in all it does, in each phase, and in a cell beside the others. From the
groups of host and model of results/, where the variance of prefill is 0.44 and of decoding 0.27, of which two
candidates of one backend share 0.43 and 0.12."""
HALVING_SD = 0.08
"""How far the ratio of two candidates moves with each halving of the layers."""
