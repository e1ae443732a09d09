"""What every launch of one calibration shares."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.check.agreement import GROUPS, LONG_SHARE, NEW_TOKENS, fixed_prompts, long_prompt
from calibration.conversion.convert import Converter, Original
from calibration.conversion.store import ArtifactStore
from calibration.environments.versions import POLICY
from calibration.events import LaunchEvent, Reporter
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec, Limits, Subject
from calibration.supervision.workers import Workers
from calibration.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The model, its cells, and what launches work with."""

    calibration_id: str
    subject: Subject
    cells: tuple[Workload, ...]
    store: ArtifactStore
    folder: Path
    """Logs and score files; gone after the calibration."""
    reporter: Reporter[LaunchEvent]
    limits: Limits
    deadline: Deadline
    """The budget's: the reference, too, ends by then."""

    @property
    def clock(self) -> Callable[[], float]:
        return self.deadline.clock

    def begin(self, spec: LaunchSpec, round_number: int) -> dict[str, Any]:
        """Begin a launch: what its outcome says of it, whatever becomes of it; the outcome's run_id excepted."""
        return {
            "calibration_id": self.calibration_id,
            "round": round_number,
            "candidate": spec.candidate,
            "identity": self.subject.identity,
            "model": self.subject.name,
            "environment": dict(spec.environment),
            "policy": POLICY,
            "started_at": time.time(),
        }

    @property
    def workers(self) -> Workers:
        longest = max([*(c.context_tokens for c in self.cells), *map(len, self.check_prompts())])
        return Workers(
            subject=self.subject,
            max_context_tokens=longest + NEW_TOKENS,
            max_batch=max([*(c.batch for c in self.cells), *map(len, GROUPS)]),
        )

    @property
    def converter(self) -> Converter:
        return Converter(
            original=Original.of(self.subject),
            store=self.store,
            workers=self.workers,
            reporter=self.reporter,
            limit_s=self.limits.prepare_s,
            clock=self.clock,
        )

    def check_prompts(self) -> list[list[int]]:
        """The prompts of the correctness check: the long one costs a part of what the cells do."""
        longest = max((c.context_tokens for c in self.cells), default=1 << 30)
        timed = sum(c.prompt_tokens * c.batch for c in self.cells)
        subject = self.subject
        long = long_prompt(int(timed * LONG_SHARE), longest, subject.max_position, subject.sliding_window)
        room = min(max(longest, 2 * NEW_TOKENS, long + NEW_TOKENS), subject.max_position or 1 << 30)
        return fixed_prompts(subject.vocab_size, room, long)
