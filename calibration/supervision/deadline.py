"""Ask a worker within the time that is left."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.supervisor import Worker

LEAST_S = 0.1
"""A request gets this long even after the deadline: whether a worker is dead shows at once."""


class GivenUp(Exception):
    """A step of a launch failed."""

    def __init__(self, stage: str, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.stage = stage
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a clock by which a worker must have answered."""

    at: float | None
    """None: never."""
    clock: Callable[[], float]

    def within(self, seconds: float | None) -> "Deadline":
        """The sooner of this deadline and the moment so many seconds from now."""
        if seconds is None:
            return self
        ends = self.clock() + seconds
        return replace(self, at=ends if self.at is None else min(ends, self.at))

    def is_past(self) -> bool:
        return self.at is not None and self.clock() >= self.at

    def left_s(self) -> float | None:
        """Seconds to the deadline; None where there is none."""
        return None if self.at is None else max(0.0, self.at - self.clock())

    def ask(self, worker: Worker, stage: str, timeout_s: float, verb: str, **fields: Any) -> Reply:
        """Send a request and wait for its answer, at most `timeout_s` seconds and not beyond the deadline.

        Raises:
            GivenUp: the worker failed, or did not answer in time.
        """
        left_s = self.left_s()
        limit = min(timeout_s, math.inf if left_s is None else max(LEAST_S, left_s))
        match worker.ask(verb, timeout_s=limit, **fields):
            case Reply() as reply:
                return reply
            case Trouble() as trouble:
                if trouble.at_deadline and limit == timeout_s:
                    trouble = replace(trouble, message=f"no answer within {timeout_s:g} s")
                raise GivenUp(stage, trouble)
