"""What launches will probably take: by what those before took, and by what is believed of the cells."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from calibration.launch.timing import expected_s
from calibration.measurement import Cell
from calibration.rung import Rung
from calibration.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

START_S = 8.0
"""Of a launch beside its cells: a worker that imports its engine, loads half a billion parameters and is checked, on
two cores."""
AGAIN_S = 4.0
"""The same of a launch that is not checked."""
START_S_PER_GIB = 4.0
"""What each GiB of weights adds to it."""


class Expense:
    """What the launches of one calibration took so far.

    Args:
        weights: rung: bytes of its weights.
    """

    def __init__(self, weights: Mapping[Rung, int]) -> None:
        self._weights = weights
        self._took: dict[tuple[str, Rung, bool], float] = {}
        """Label, rung, whether it was checked: seconds beside the cells."""

    def count(self, label: str, rung: Rung, seconds: float, cells: Sequence[Cell], *, checked: bool) -> None:
        """Count a launch.

        Args:
            seconds: without conversions and the reference, which later launches need not do again.
        """
        timed_s = sum(expected_s(c.workload, c.ttft_s, c.tpot_s) for c in cells)
        self._took[label, rung, checked] = max(0.0, seconds - timed_s)

    def launch_s(
        self, label: str, rung: Rung, cells: Sequence[Workload], log_times: "NDArray[np.float64]", *, checked: bool
    ) -> float:
        """Of a launch whose model is converted already.

        Args:
            log_times: what is believed of its cells: [cell, phase]
            checked: its output has yet to be compared with the reference's.
        """
        timed_s = sum(
            expected_s(cell, math.exp(ttft), math.exp(tpot) if cell.output_tokens > 1 else None)
            for cell, (ttft, tpot) in zip(cells, log_times, strict=True)
        )
        return timed_s + self._beside_s(label, rung, checked=checked)

    def _beside_s(self, label: str, rung: Rung, *, checked: bool) -> float:
        """As its own last launch, as the others' on average beside what was expected of them, or as expected."""
        if (label, rung, checked) in self._took:
            return self._took[label, rung, checked]
        factors = [took / self._expected_s(at, of) for (_, at, of), took in self._took.items()]
        return self._expected_s(rung, checked) * (fmean(factors) if factors else 1.0)

    def _expected_s(self, rung: Rung, checked: bool) -> float:
        return (START_S if checked else AGAIN_S) + START_S_PER_GIB * self._weights[rung] / 2**30
