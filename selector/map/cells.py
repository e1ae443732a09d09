"""A cell of the map: who is best at one workload, or why nothing runs it."""

from dataclasses import dataclass

from calibration.workload import Workload
from selector.choice.picked import Pick
from selector.demand.objective import Objective
from selector.demand.targets import LIKELY
from selector.evidence.comparison import median_ratio
from selector.predict.prediction import Predicted

_CLEAR = 0.5
"""A predicted winner is a tie with the next where it is less likely than this that nobody is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Won:
    """A workload and the candidate that is best at it."""

    workload: Workload
    pick: Pick

    @property
    def label(self) -> str:
        return self.pick.label

    @property
    def rival(self) -> str:
        """The first of those that are as good as it, or that are as likely to be the best; empty where none is."""
        if self.expected is None:
            return next((r.candidate.label for r in self.pick.ranking if r.candidate.label in self.pick.tie), "")
        others = [row for row in self.expectations if row.candidate != self.label]
        if not others or self.missed or self.expected.p_best >= _CLEAR:
            return ""
        return max(others, key=lambda row: row.p_best).candidate

    @property
    def expectations(self) -> tuple[Predicted, ...]:
        """What is predicted of it and of the others; empty where it was measured."""
        return self.pick.prediction.predicted if self.pick.prediction and self.pick.ranked is None else ()

    @property
    def expected(self) -> Predicted | None:
        """What is predicted of it; None where it was measured."""
        return None if self.pick.ranked is not None else self.pick.expected

    @property
    def e2e_s(self) -> float | None:
        """What the workload takes, measured or predicted; None where neither is known."""
        known = self.pick.ranked or self.expected
        return None if known is None else known.e2e_s

    def times_more(self, label: str, objective: Objective) -> float | None:
        """How many times more another candidate takes; None where it was neither measured nor predicted with it."""
        if self.pick.ranked is not None:
            other = next((r for r in self.pick.ranking if r.candidate.label == label), None)
            return None if other is None else median_ratio(other, self.pick.ranked, objective)
        row = self.pick.prediction.of(label) if self.pick.prediction else None
        if row is None or self.expected is None:
            return None
        return row.ttft_s / self.expected.ttft_s if objective is Objective.TTFT else row.e2e_s / self.expected.e2e_s

    @property
    def extrapolated(self) -> bool:
        return self.pick.ranked is not None and not self.pick.ranked.covered

    @property
    def missed(self) -> bool:
        """No candidate meets the targets here."""
        known = self.pick.ranked or self.expected
        return known is not None and known.chance is not None and known.chance < LIKELY


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """A workload that nothing runs here."""

    workload: Workload
    reason: str


Cell = Won | Barred
