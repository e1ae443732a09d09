"""The contest on a ladder: what is believed after its launches, who leads, who is out, and who must be tried yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from calibration.race.bounds import SURE
from calibration.race.ladder.beliefs import Beliefs, Noise, Observation
from calibration.race.ladder.outlook import Outlook
from calibration.rung import Rung
from calibration.workload import Workload

OUT = 0.03
"""A launched candidate with a smaller chance to be within BAND of the best is not launched again."""
FINALISTS = 2
"""Of each kind, exact or lossy, so many will probably climb to the last rung: the winner on a few layers was the winner
on all, four times of four."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Where a race on a ladder stands.

    Args:
        prior: of the candidates that did not fail.
    """

    prior: Beliefs
    lossy: frozenset[str]
    """Labels: the others race among themselves, too, since a user who allows no lossy one must find their best."""
    workloads: tuple[Workload, ...]
    launches: Sequence[Observation]
    """So far, oldest first, of candidates that did not fail."""
    seconds: Mapping[tuple[str, Rung], float]
    """What a launch will probably take; launches that memory or disk does not hold are not in it."""
    opening_s: Mapping[Rung, float] = field(default_factory=dict)
    """What a rung takes before its first launch: its weights and its reference."""
    noise: Noise = field(default_factory=Noise)
    rounds: int = 3
    """Launches of a candidate on a rung at most."""
    sure: float = SURE
    left_s: float | None = None
    """Of the budget."""

    @cached_property
    def beliefs(self) -> Beliefs:
        """After the launches."""
        return self.prior.given(self.launches, self.noise)

    @cached_property
    def outlook(self) -> Outlook:
        """Of the whole model, whatever it is that can be launched: that is what the answer is for."""
        return Outlook.on(self.beliefs, max(self.prior.rungs), self.workloads)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the race is over, at most those of the budget; None while no launch can be made."""
        if not self.seconds:
            return self.left_s
        left = [self.seconds[label, self.first_rung(label)] for label in self.untried]
        finals = sorted(s for (label, rung), s in self.seconds.items() if rung == self.target)
        total = sum(left) + FINALISTS * len(self.groups) * (finals[len(finals) // 2] if finals else 0.0)
        return total if self.left_s is None else min(total, self.left_s)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.prior.labels

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Those that are not lossy, and all; a group that is the other is not named again."""
        exact = tuple(label for label in self.labels if label not in self.lossy)
        return [group for group in dict.fromkeys((exact, self.labels)) if group]

    @property
    def target(self) -> Rung:
        """What is climbed to: the whole model where any candidate can be launched so, else one rung of layers.

        That is the rung on which the race began, or that takes the least for all: more layers would cost their own
        weights, reference and conversions, and still not be the whole model.
        """
        rungs = {rung for _, rung in self.seconds}
        begun = {launch.rung for launch in self.launches}
        if whole := [rung for rung in rungs | begun if rung.whole]:
            return whole[0]
        return min(begun or rungs or {max(self.prior.rungs)}, key=lambda rung: (self._all_s(rung), rung))

    @cached_property
    def picks(self) -> list[tuple[str, ...]]:
        """For each group the best for each workload, of those that were launched; of all, before any was."""
        return [self.outlook.pick([x for x in group if x in self.launched] or group) for group in self.groups]

    @cached_property
    def sureness(self) -> float:
        """The probability that the picks are within BAND of the best, of all candidates and of the exact ones."""
        return min(self.outlook.sureness(p, g) for p, g in zip(self.picks, self.groups, strict=True))

    @cached_property
    def chances(self) -> dict[str, float]:
        """Of each candidate to be within BAND of the best of those that it competes with."""
        best: dict[str, float] = {}
        for group in self.groups:
            for label, chance in self.outlook.chances(group).items():
                best[label] = max(chance, best.get(label, 0.0))
        return best

    @cached_property
    def out(self) -> dict[str, str]:
        """Who is not launched again, and why."""
        reasons = {}
        for label in self.labels:
            launched = self.launched.get(label)
            if label in self._picked or (launched and self.chances[label] >= OUT):
                continue
            if launched or not self._may_lead(label):
                reasons[label] = self._reason(label, launched)
        return reasons

    @cached_property
    def launched(self) -> dict[str, Rung]:
        """Label: the deepest rung that it was launched on."""
        deepest: dict[str, Rung] = {}
        for launch in self.launches:
            deepest[launch.label] = max(launch.rung, deepest.get(launch.label, launch.rung))
        return deepest

    @cached_property
    def untried(self) -> list[str]:
        """Who must be launched once before anything is sure: a prior delays a candidate, but buries none."""
        can_be = {label for label, _ in self.seconds}
        return [x for x in self.labels if x in can_be and x not in self.launched and self._may_lead(x)]

    def first_rung(self, label: str) -> Rung:
        """The rung that a candidate is launched on first.

        Raises:
            ValueError: it cannot be launched on any.
        """
        own = [rung for name, rung in self.seconds if name == label and rung <= self.target]
        own = own or [rung for name, rung in self.seconds if name == label]
        begun = min((launch.rung for launch in self.launches), default=None)
        if begun in own:
            return begun
        return min(own, key=self._expected_s)

    @cached_property
    def _picked(self) -> frozenset[str]:
        return frozenset(label for picks in self.picks for label in picks)

    @cached_property
    def _leaders(self) -> list[tuple[str, ...]]:
        """The picks of all, launched or not."""
        return [self.outlook.pick(group) for group in self.groups]

    @property
    def _is_settled(self) -> bool:
        """Whether every pick was launched as deep as it can be, and none that was not launched is thought better."""
        return all(
            label in self.launched and self.launched[label] >= self._deepest(label)
            for picks in (*self.picks, *self._leaders)
            for label in picks
        )

    def _may_lead(self, label: str) -> bool:
        """Whether the 90 % interval of its time reaches the leader's on any workload; yes where nothing is known."""
        if not self.prior.informed:
            return True
        pairs = zip(self._leaders, self.groups, strict=True)
        return any(self.outlook.times_slower(label, picks)[1] <= 1.0 for picks, group in pairs if label in group)

    def _may_climb(self, label: str) -> bool:
        """Whether a launched candidate was not launched yet as deep as it can be."""
        return (
            label in self.launched
            and (label, self._deepest(label)) in self.seconds
            and (self.launched[label] < self._deepest(label))
        )

    def _deepest(self, label: str) -> Rung:
        rungs = [rung for name, rung in self.seconds if name == label and rung <= self.target]
        return max(rungs, default=self.launched.get(label, self.target))

    def _reason(self, label: str, launched: Rung | None) -> str:
        pairs = [(picks, group) for picks, group in zip(self._leaders, self.groups, strict=True) if label in group]
        times, low, high = self.outlook.times_slower(label, pairs[0][0])
        much = f"{times:.1f} times slower than {pairs[0][0][0]} ({low:.1f} to {high:.1f})"
        return f"{much} on {launched}" if launched else f"predicted {much}"

    @cached_property
    def _leading(self) -> frozenset[str]:
        return self._picked | frozenset(label for picks in self._leaders for label in picks)

    def _expected_s(self, rung: Rung) -> float:
        """Of a race that begins on a rung: all who must be tried there, the finalists on the target."""
        total = self._all_s(rung)
        if rung < self.target:
            finals = [s for (_, at), s in self.seconds.items() if at == self.target]
            total += self.opening_s.get(self.target, 0.0) + FINALISTS * len(self.groups) * sum(finals) / len(finals)
        return total

    def _all_s(self, rung: Rung) -> float:
        """Of a launch of every candidate on a rung, its opening included."""
        return self.opening_s.get(rung, 0.0) + sum(s for (_, at), s in self.seconds.items() if at == rung)
