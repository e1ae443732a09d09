"""The course of a load: which requests count, when that is enough, and whether more come than are answered."""

from dataclasses import dataclass, field

from calibration.load.client.ask import Answer
from calibration.load.figures import Share, rises
from calibration.load.sample import End, RequestTargets

OPEN_DISCARD = 5
"""Requests at the begin of an open loop that do not count: they meet an idle server. A fixed number, so that the same
requests count for every engine."""
JUDGED_LEAST = 20
"""Requests before an interval ends a load: of a server that keeps 97 of 100, one load in fifty has three misses by
then, which would be below 95 for certain; with fewer requests two of them would do."""
PILE_UP_S = 30.0
"""How long requests must have piled up (guidellm's over-saturation waits as long)."""
PILE_UP_REQUESTS = 50
SLOTS_TIMES = 2
"""In flight beyond this many times the server's slots, the last request waits for a whole round of the others."""


class Course:
    """Decides for a load. Times are seconds since it began.

    Args:
        requests: how many are to count at most.
        budget_s: when no more requests come to count; those that do are still waited for.
        targets: an open loop ends once it is certain whether the share of requests keeps to them.
        slots: how many requests the server works on at once; 0: not known.
        steady: requests come at one rate all the time. Those of a trace do not: what its first requests keep to says
            nothing of a crowd that comes later, and more in flight towards its end may be such a crowd.
    """

    def __init__(
        self,
        *,
        requests: int,
        budget_s: float,
        targets: RequestTargets | None = None,
        slots: int = 0,
        steady: bool = True,
    ) -> None:
        self._requests, self._budget_s = requests, budget_s
        self._targets = targets if steady else None
        self._pile = PileUp(slots=slots, steady=steady)
        self._decided: list[bool] = []
        self.sample: list[Answer] = []
        self.opened_s: float | None = None
        self.saturated = ""
        self.end: End | None = None
        """Why no more requests come to count; None while they do."""

    def open(self, now_s: float) -> None:
        """From now on requests count."""
        if self.opened_s is None:
            self.opened_s = now_s

    def sent(self, answer: Answer, now_s: float, in_flight: int) -> None:
        """A request is being sent: note whether it counts.

        Args:
            in_flight: the requests that it meets.
        """
        if self.opened_s is None or self.end is not None:
            return
        if now_s >= self._budget_s:
            self.end = End.BUDGET
            return
        answer.counted = True
        self.sample.append(answer)
        if answer.due_s is not None:
            self._pile.sent(answer.due_s, in_flight)
        if len(self.sample) == self._requests:
            self.end = End.REQUESTS

    def answered(self, answer: Answer) -> None:
        """A request has ended."""
        if answer.counted and answer.due_s is not None and answer.chunks_s:
            self._pile.began(answer.due_s, answer.chunks_s[0] - answer.due_s)

    def look(self, now_s: float) -> None:
        """End the sample where it is time to; called often."""
        if self.saturated:
            return
        if self.end is None and now_s >= self._budget_s:
            self.end = End.BUDGET
        if self.opened_s is None or not self.sample or self.sample[0].due_s is None:
            return  # a closed loop: its streams wait for their answers, and it ends by its number
        pile_up = self._pile.reason(now_s)
        share = self.attained(now_s)
        low, high = share.interval
        target = self._targets.share if self._targets else 0.0
        if self._targets and share.of >= JUDGED_LEAST and high < target:
            self.stop(f"{share} requests kept to {self._targets}")
        elif pile_up:
            self.stop(pile_up)
        elif self._targets and self.end is None and share.of >= JUDGED_LEAST and low > target:
            self.end = End.CLEAR
            for answer in self.sample[share.of :]:
                answer.counted = False
            del self.sample[share.of :]

    def attained(self, now_s: float) -> Share:
        """Of the first requests up to the first that is not decided, how many kept to the targets.

        Only those: of all that have ended by now too many would be quick ones.
        """
        if not self._targets:
            return Share(kept=0, of=0)
        for answer in self.sample[len(self._decided) :]:
            kept = _kept(answer, self._targets, now_s)
            if kept is None:
                break
            self._decided.append(kept)
        return Share(kept=sum(self._decided), of=len(self._decided))

    @property
    def over(self) -> bool:
        """Whether nothing is waited for any more."""
        return bool(self.saturated) or (self.end is not None and all(answer.done for answer in self.sample))

    def stop(self, reason: str) -> None:
        """More requests come than are answered: all is over."""
        self.saturated, self.end = reason, End.SATURATED


@dataclass(slots=True, kw_only=True)
class PileUp:
    """Sees whether requests of an open loop pile up at the server."""

    slots: int = 0
    steady: bool = True
    """Requests come at one rate all the time."""
    _in_flight: list[tuple[float, float]] = field(default_factory=list)
    _ttft: list[tuple[float, float]] = field(default_factory=list)

    def sent(self, at_s: float, in_flight: int) -> None:
        self._in_flight.append((at_s, float(in_flight)))

    def began(self, due_s: float, ttft_s: float) -> None:
        """An answer has its first token."""
        self._ttft.append((due_s, ttft_s))

    def reason(self, now_s: float) -> str:
        """Why more requests come than are answered; empty where that is not seen.

        Either both the requests in flight and the times to the first token rise for certain (guidellm's criterion, over
        the whole load, so that a crowd by chance is not taken for one that stays; where they come at one rate); or for
        PILE_UP_S more than SLOTS_TIMES the slots were taken, and more at its end than at its begin.
        """
        sent = len(self._in_flight)
        if not sent or now_s - self._in_flight[0][0] < PILE_UP_S:
            return ""
        # Times to the first token are known of answers that have ended: of the latest requests the quickest, so that a
        # rise is seen late, not early.
        judged = self.steady and sent >= PILE_UP_REQUESTS
        if judged and rises(self._in_flight) and rises(sorted(self._ttft)):
            return f"requests pile up: {self._in_flight[-1][1]:.0f} in flight after {now_s:.0f} s, and TTFT rises"
        lately = [count for at_s, count in self._in_flight if at_s >= now_s - PILE_UP_S]
        if self.slots and len(lately) > 1 and min(lately) > SLOTS_TIMES * self.slots and lately[-1] > lately[0]:
            return f"requests pile up: {lately[-1]:.0f} in flight after {now_s:.0f} s, for {self.slots} slots"
        return ""


def _kept(answer: Answer, targets: RequestTargets, now_s: float) -> bool | None:
    """Whether a request keeps to its targets; None while that is open."""
    if answer.done:
        return answer.asked().keeps(targets)
    begun_s = answer.sent_s if answer.due_s is None else answer.due_s
    if targets.ttft_s is not None and not answer.chunks_s and now_s - begun_s > targets.ttft_s:
        return False
    if targets.e2e_s is not None and now_s - begun_s > targets.e2e_s:
        return False
    return None
