"""The ladder: who is launched next, on how many layers, who is out, and when it is over. No clock, no process.

Candidates climb from what is predicted to a few layers, and from there to the whole model. The next launch is the one
that is expected to tell most per second: by how much less time the pick will then probably take.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from calibration.race.bounds import SURE
from calibration.race.ladder.beliefs import Observation
from calibration.race.ladder.contest import FINALISTS, OUT, Contest
from calibration.rung import Rung

LEAST_GAIN = 0.006
"""Where no launch is expected to lead to a pick that is faster by so much (for SURE), the leaders are tied. A fifth of
BAND: what further launches would tell is less than what a repeated one differs by."""


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


class Position(Contest):
    """Where a race on a ladder stands, and what is decided there."""

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
