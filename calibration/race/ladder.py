"""The ladder: who is launched next, on how many layers, who is out, and when it is over. No clock, no process.

Candidates climb from what is predicted to a few layers, and from there to the whole model. The next launch is the one
that is expected to tell most per second: by how much less time the pick will then probably take.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from calibration.race.beliefs import Beliefs, Noise, Observation
from calibration.race.outlook import Outlook
from calibration.rung import Rung
from calibration.workload import Workload

SURE = 0.95
"""The probability at which a pick is sure."""
OUT = 0.03
"""A launched candidate with a smaller chance to be within BAND of the best is not launched again."""
LEAST_GAIN = 0.006
"""Where no launch is expected to lead to a pick that is faster by so much (for SURE), the leaders are tied. A fifth of
BAND: what further launches would tell is less than what a repeated one differs by."""
FINALISTS = 2
"""Of each kind, exact or lossy, so many will probably climb to the last rung: the winner on a few layers was the winner
on all, four times of four."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Launches that are due next, in order; of several the first only is sure to be made."""

    launches: tuple[tuple[str, Rung], ...]
    gain: float
    """By how much less, in logarithms, the pick will then probably take."""
    seconds: float
    must: bool = False
    """Nothing is sure before it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    why: str
    """`sure`, `tied`, `on layers`, `one left`, `none left`, `rounds`, `budget`."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a race on a ladder stands, and what is decided there.

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

    def next(self) -> Move | Ended:
        """What is done next."""
        if not self.groups:
            return Ended(why="none left")
        if self._is_settled and not self.untried and self.sureness >= self.sure:
            return Ended(why=self._why_sure())
        moves = self._moves()
        affordable = [move for move in moves if self.left_s is None or move.seconds <= self.left_s]
        if affordable:
            best = max(affordable, key=lambda move: (move.gain / move.seconds, -move.seconds))
            if best.must or not self._is_settled or any(move.gain >= self._least_gain for move in affordable):
                return best
            if musts := [move for move in affordable if move.must]:
                return max(musts, key=lambda move: (move.gain / move.seconds, -move.seconds))
            return Ended(why="on layers" if self._stands_on_layers() else "tied")
        if moves:
            return Ended(why="budget")
        return Ended(why="on layers" if self._stands_on_layers() else "rounds")

    def goes_on(self, launch: Observation) -> bool:
        """Whether a launch of which some cells were timed shall time the others: it may still be the best."""
        seen = replace(self, launches=[*self.launches, launch])
        return launch.label in seen._picked or seen.chances[launch.label] >= OUT  # noqa: SLF001  of its own class

    @property
    def _least_gain(self) -> float:
        return LEAST_GAIN * (1.0 - self.sure) / (1.0 - SURE)

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

    @cached_property
    def untried(self) -> list[str]:
        """Who must be launched once before anything is sure: a prior delays a candidate, but buries none."""
        can_be = {label for label, _ in self.seconds}
        return [x for x in self.labels if x in can_be and x not in self.launched and self._may_lead(x)]

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

    def _why_sure(self) -> str:
        if len(self.labels) == 1:
            return "one left"
        if any(not self.launched[label].whole for label in self._picked):
            return "on layers"
        near = [label for label, chance in self.chances.items() if chance >= self.sure]
        return "tied" if len(near) > len(self._picked) else "sure"

    def _stands_on_layers(self) -> bool:
        return any(not self.launched.get(label, self.target).whole for label in self._picked)

    def _moves(self) -> list[Move]:
        """What can be launched next: a candidate for the first time on a rung, or the leader and a rival in turn."""
        able = {label for label, _ in self.seconds}
        untried = [label for label in self.labels if label in able and label not in self.launched]
        singles = [self._move([(label, self.first_rung(label))]) for label in untried]
        due = [label for label in self.labels if label in self.launched and label not in self.out]
        again: list[Move] = []
        for rung in sorted({rung for _, rung in self.seconds if rung <= self.target}):
            count = self._count(rung)
            here = [x for x in due if (x, rung) in self.seconds and count.get(x, 0) < self.rounds]
            here = [x for x in here if rung >= self.first_rung(x)]
            if self._lone(rung):
                # Half a round compares nothing: its second launch comes first.
                again += [self._move([(x, rung)]) for x in here if x not in self._in_round(rung)]
                continue
            again += [self._move([(x, rung)]) for x in here if x not in count]
            for leader in sorted(self._leading & set(here)):
                again += [self._move(self._in_turn(leader, x, rung)) for x in here if x != leader and x in count]
        if must := [replace(move, must=True) for move in singles if move.launches[0][0] in self.untried]:
            # Leader and rival in turn wait: who must be launched may beat both.
            return [*must, *(move for move in again if len(move.launches) == 1)]
        climbs = [self._move([(x, self._deepest(x))]) for x in sorted(self._leading) if self._may_climb(x)]
        if any(self.left_s is None or move.seconds <= self.left_s for move in climbs):
            # Nothing is sure before the picks stand on their last rung, however near another pair of leaders is.
            # Who is thought hopeless is cheap to launch, and tells next to nothing.
            return [replace(move, must=True) for move in climbs]
        return [*singles, *again]

    @cached_property
    def _leading(self) -> frozenset[str]:
        return self._picked | frozenset(label for picks in self._leaders for label in picks)

    def _move(self, launches: Sequence[tuple[str, Rung]]) -> Move:
        seconds = sum(self.seconds[launch] for launch in launches)
        opened = {launch.rung for launch in self.launches}
        for rung in {rung for _, rung in launches} - opened:
            # Those that come after it find the rung open.
            seconds += self.opening_s.get(rung, 0.0) / max(1, len(self.untried) if not opened else FINALISTS)
        gain = self.outlook.gain(launches, self.groups, self.noise)
        return Move(launches=tuple(launches), gain=gain, seconds=seconds)

    def _in_turn(self, leader: str, rival: str, rung: Rung) -> list[tuple[str, Rung]]:
        """A B, and B A when B was launched last: a drift then hits both alike."""
        last = next((x.label for x in reversed(self.launches) if x.rung == rung and x.label in {leader, rival}), "")
        return [(rival, rung), (leader, rung)] if last == rival else [(leader, rung), (rival, rung)]

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

    def _count(self, rung: Rung) -> dict[str, int]:
        count: dict[str, int] = {}
        for launch in self.launches:
            if launch.rung == rung:
                count[launch.label] = count.get(launch.label, 0) + 1
        return count

    def _in_round(self, rung: Rung) -> set[str]:
        """Who was launched in the newest round of a rung."""
        newest = max((x.round for x in self.launches if x.rung == rung), default=0)
        return {x.label for x in self.launches if x.rung == rung and x.round == newest}

    def _lone(self, rung: Rung) -> bool:
        """Whether the newest round of a rung, after its first, has one launch only."""
        newest = max((x.round for x in self.launches if x.rung == rung), default=0)
        return newest > 1 and len(self._in_round(rung)) == 1


def round_of(label: str, rung: Rung, launches: Sequence[Observation]) -> int:
    """The round of a candidate's next launch: the newest of its rung, or a new one where it was launched in that."""
    on_rung = [launch for launch in launches if launch.rung == rung]
    newest = max((launch.round for launch in on_rung), default=1)
    return newest + any(launch.label == label and launch.round == newest for launch in on_rung)
