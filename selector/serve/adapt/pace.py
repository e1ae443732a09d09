"""How often a server looks whether another engine would be better, by how much of what came, and since when."""

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from selector.demand.traffic import Observed

STAYS = 6
"""An engine that has just begun to answer stays for so many looks at least: with a look every five minutes half an
hour, beside which even a minute without an engine is a small loss."""
STAYS_MOST_S = 86400.0
KEPT = 10
"""Of what came, the newest is looked at: so many times the requests that are needed, as far as there were as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often it is looked, and by how many requests."""

    every_s: float = 300.0
    requests: int = 100
    """As many as a load is measured with: calibration.load.run.REQUESTS_LEAST."""

    def stays_s(self, switches: int) -> float:
        """How long an engine answers at least, after so many switches: each time twice as long, up to a day.

        >>> [Pace().stays_s(switches) for switches in (0, 1, 2, 3, 20)]
        [0.0, 1800.0, 3600.0, 7200.0, 86400.0]
        """
        if not switches:
            return 0.0
        return min(max(STAYS_MOST_S, self.every_s), STAYS * self.every_s * 2.0 ** min(switches - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What has been done so far."""

    running: str
    """Label of the candidate that answers."""
    since_s: float
    """When, on the clock, it began to answer; or when a switch was tried and nothing came of it."""
    switches: int = 0
    """That were done or tried."""
    sure_of: str = ""
    """Label of the candidate that was surely better at the last look: who is so twice in a row is taken."""
    failed: Mapping[str, Hashable] = field(default_factory=dict)
    """Label of each candidate that did not come up, and what it was tried with: it is tried again with something else
    alone."""


class Recent:
    """The newest of what came.

    Args:
        requests: older parts are forgotten where newer ones have so many.
    """

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._parts: deque[Observed] = deque()

    @property
    def all(self) -> Observed | None:
        """None: nothing came."""
        return reduce(add, self._parts) if self._parts else None

    def add(self, came: Observed) -> None:
        """What came since the last time."""
        self._parts.append(came)
        while sum(part.requests for part in self._parts) - self._parts[0].requests >= self._requests:
            self._parts.popleft()

    def clear(self) -> None:
        """Forget it: from now on another engine answers."""
        self._parts.clear()
