"""The state of a race, from its launches: who is launched next, who is out, why it is over. No clock, no process."""

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from statistics import median

from calibration.events import CandidateOut
from calibration.measurement import Cell, Check, Measurement, Outcome
from calibration.race.bounds import Bounds
from calibration.race.known import Known
from calibration.race.rounds import history
from calibration.race.rounds.decisions import History
from calibration.supervision.launch_spec import LaunchSpec, Skipped

REMATCH_ROUNDS = (2, 3)
"""A rematch is A B B A: A B are launched in the first of these rounds and B A in the second."""


class Race:
    """The candidates of one calibration and their launches so far.

    Args:
        candidates: in the static order.
        known: what earlier runs have left.
        cells: number of cells that a whole launch has.
    """

    def __init__(self, candidates: Sequence[LaunchSpec], known: Known, *, cells: int, bounds: Bounds) -> None:
        self.calibration_id = known.launches[-1].calibration_id if known.launches else uuid.uuid4().hex
        self.outcomes = list(known.launches)
        self.out: dict[str, int] = {}
        """Candidate label: the round after which it was out of the race."""
        self.ended = ""
        """Why the race is over, as Tally.ended; empty while it goes on."""
        self.round = 0
        self.order: tuple[str, ...] = ()
        """Labels of all who are in this round."""
        self.waiting: tuple[LaunchSpec, ...] = ()
        """Who is still to be launched in this round."""
        self._unchecked = set(known.unchecked)
        self._candidates = candidates
        self._cells = cells
        self._bounds = bounds
        self._cut_short: set[str] = set()
        self._rematch: list[list[str]] = []
        """The four launches, A B B A, of each pair that meets again."""

    def launches_left(self, label: str) -> int:
        """Launches of a candidate after this round, at most: of the rounds whose times are not known."""
        known = {o.round for o in self.outcomes if o.candidate.label == label and not isinstance(o, Check)}
        return sum(number not in known for number in range(self.round + 1, self._bounds.rounds + 1))

    def begin_round(self) -> None:
        """Order the candidates that are still in; those that an earlier run launched in this round are done.

        In the first round a candidate with times but no verdict for this config is launched again, to be checked.
        """
        self.round += 1
        specs = {spec.label: spec for spec in self._candidates if self._is_in(spec)}
        self.order = tuple(self._order(specs))
        self.waiting = tuple(
            specs[label]
            for label in self.order
            if not self.is_timed(specs[label]) or (self.round == 1 and label in self._unchecked)
        )

    def next_launch(self) -> LaunchSpec | None:
        """Who is launched next; None when the round is over."""
        if not self.waiting:
            return None
        if self.round == 1:
            self.waiting = history.hopeful_first(self._candidates, self.waiting, self.outcomes)
        spec, *waiting = self.waiting
        self.waiting = tuple(waiting)
        return spec

    def is_timed(self, spec: LaunchSpec) -> bool:
        """Whether a candidate's times of this round are known: it is launched only for its check, or not at all."""
        return any(
            outcome.candidate == spec.candidate and outcome.round == self.round
            for outcome in self.outcomes
            if not isinstance(outcome, Check)
        )

    def promising(self, spec: LaunchSpec) -> Callable[[Sequence[Cell]], bool]:
        """A function that says of a running launch, by its cells, whether it is the fastest so far at anything."""
        return partial(history.ahead, rivals=history.rivals(self._candidates, self.outcomes, spec))

    def add(self, spec: LaunchSpec, outcome: Outcome | Skipped) -> None:
        """Count a launch."""
        self._cut_short.discard(spec.label)
        if self.cut_short(outcome):
            self._cut_short.add(spec.label)
        if not isinstance(outcome, Skipped):
            self._unchecked.discard(spec.label)
            self.outcomes.append(outcome)

    def cut_short(self, outcome: Outcome | Skipped) -> bool:
        """Whether the budget ended a launch before its last cell."""
        return isinstance(outcome, Skipped) or (isinstance(outcome, Measurement) and len(outcome.cells) < self._cells)

    def end_round(self, *, budget_spent: bool) -> list[CandidateOut]:
        """Put out who is beaten; end the race where everything is decided or the budget is spent.

        Returns:
            Who is out now.
        """
        launches = history.launches_by_round(self._candidates, self.outcomes, self.round)
        out: list[CandidateOut] = []
        if not self._rematch_goes_on():
            out += self._put_out(history.beaten(self._candidates, launches), "slower on every cell")
        loads_are_long = self.round == 1 and self._loads_are_long()
        if loads_are_long:
            self._rematch = history.rematch(self._candidates, launches)
        if loads_are_long and self._rematch_goes_on():
            others = history.outside(self._rematch, self._candidates, launches)
            out += self._put_out(others, "loading takes minutes, so only the leaders are launched again")
        why = "load" if loads_are_long and not self._rematch else self._why_over(launches)
        if budget_spent or why:
            undecided = budget_spent or bool(self._cut_short - self.out.keys())
            self.ended = "budget" if undecided else str(why)
        return out

    def _is_in(self, spec: LaunchSpec) -> bool:
        return spec.label not in self.out and not history.failed(self.outcomes, spec)

    def _order(self, specs: dict[str, LaunchSpec]) -> Iterable[str]:
        if self._rematch and self.round in REMATCH_ROUNDS:
            first = self.round == min(REMATCH_ROUNDS)
            halves = (launches[:2] if first else launches[2:] for launches in self._rematch)
            return [label for half in halves for label in half if label in specs]
        return history.order(self._candidates, list(specs.values()), self.outcomes, self.round)

    def _put_out(self, labels: Collection[str], why: str) -> list[CandidateOut]:
        newly_out = [c.label for c in self._candidates if c.label in labels and c.label not in self.out]
        self.out |= dict.fromkeys(newly_out, self.round)
        return [CandidateOut(candidate=label, number=self.round, why=why) for label in newly_out]

    def _loads_are_long(self) -> bool:
        """Whether loading is what a launch of the first round costs."""
        loads = [o.load_s for o in self.outcomes if isinstance(o, Measurement) and o.round == 1]
        return bool(loads) and median(loads) > self._bounds.long_load_s

    def _rematch_goes_on(self) -> bool:
        """Whether a pair meets again: half a rematch decides nothing, since it does not cancel a drift."""
        still_in = {spec.label for spec in self._candidates if self._is_in(spec)}
        last = min(max(REMATCH_ROUNDS), self._bounds.rounds)
        return self.round < last and any(still_in.issuperset(launches) for launches in self._rematch)

    def _why_over(self, launches: History) -> str | None:
        if self._rematch_goes_on():
            return None
        return history.over(
            self._candidates,
            {label: cells for label, cells in launches.items() if label not in self.out},
            self._bounds.rounds,
        )
