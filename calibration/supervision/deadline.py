"""Ask a worker within what is left of the budget."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from calibration.supervision.supervisor import Reply, Trouble, Worker


class GivenUp(Exception):
    """A step of a launch failed."""

    def __init__(self, stage: str, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.stage = stage
        self.trouble = trouble


class Deadline:
    """Asks a worker within what is left of the budget."""

    def __init__(self, deadline: float | None, clock: Callable[[], float]) -> None:
        self._deadline = deadline
        self._clock = clock

    def past_deadline(self) -> bool:
        return self._deadline is not None and self._clock() >= self._deadline

    def left_s(self) -> float | None:
        """Seconds to the deadline; None where there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    def ask(self, worker: Worker, stage: str, timeout_s: float, verb: str, **fields: Any) -> Reply:
        left = math.inf if self._deadline is None else max(0.1, self._deadline - self._clock())
        limit = min(timeout_s, left)
        match worker.ask(verb, timeout_s=limit, **fields):
            case Reply() as reply:
                return reply
            case Trouble() as trouble:
                if trouble.at_deadline and limit == timeout_s:
                    trouble = replace(trouble, message=f"no answer within {timeout_s:g} s")
                raise GivenUp(stage, trouble)
