"""Commands of autobackend that run on a node, in process groups that end with the process which started them."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

import selector
from calibration.environments.lifeline import Guarded

PROGRAM: Final = Path(selector.__file__).resolve().parent.parent / "autobackend.py"
"""Run as a script, so that the command is of the very code that starts it."""
KEPT_LINES: Final = 40
"""Of what a command prints, so many are kept for an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    lines: tuple[str, ...]
    """The last ones that it printed."""
    best: tuple[str, ...] = ()
    """The pick of the machine and who comes next, where it calibrated a model."""

    @property
    def reason(self) -> str:
        """The first line of the error that it printed, else its last line."""
        errors = [line.removeprefix("error: ") for line in self.lines if line.startswith("error: ")]
        return (errors or list(self.lines) or [f"it ended with the code {self.code} and printed nothing"])[-1]

    @property
    def details(self) -> str:
        """What stands below the first line of its error, as that of several things does; else its reason."""
        starts = [place for place, line in enumerate(self.lines) if line.startswith("error: ")]
        below = takewhile(lambda line: line.startswith("  "), self.lines[starts[-1] + 1 :] if starts else ())
        return "; ".join(line.strip() for line in below) or self.reason


class Commands:
    """Runs commands, each in the thread that asks for it, and knows what those say of themselves that run.

    Args:
        nice: the nice value of what it runs, where the system allows it; None: that of this process.
    """

    def __init__(self, nice: int | None = None) -> None:
        self._nice = nice
        self._now: dict[str, str] = {}

    @property
    def now(self) -> str:
        """The last line that each of them printed; empty while none runs."""
        return "; ".join(line for line in list(self._now.values()) if line)

    def run(
        self,
        words: Sequence[str],
        *,
        variables: Mapping[str, str] | None = None,
        cpus: Collection[int] = (),
        title: str = "",
    ) -> Ended:
        """Run `autobackend WORDS...` and return how it ended.

        Args:
            variables: over our own environment variables.
            cpus: the cores that it is bound to, as the calling thread is from then on; none: it is not bound.
            title: what its lines begin with in `now`; no two commands that run have the same.
        """
        # Both are of this thread alone, and of what it starts.
        if cpus:
            os.sched_setaffinity(0, cpus)
        if self._nice is not None:
            with suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, 0, self._nice)
        lines: list[str] = []
        try:
            with Guarded([sys.executable, str(PROGRAM), *words], variables={**os.environ, **(variables or {})}) as ours:
                for line in ours.lines():
                    if line.strip():
                        self._now[title] = f"{title}{line.strip()}"
                        lines = [*lines[1 - KEPT_LINES :], line.rstrip()]
                code = ours.wait()
        finally:
            self._now.pop(title, None)
        return Ended(code=code, lines=tuple(lines))
