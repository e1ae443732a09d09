"""What runs on a node of a fleet: says what machine it is, and runs autobackend's own commands there.

A command runs in a process group that ends with the agent, however that ends; so nothing is left on a node whose driver
was killed.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import selector
from calibration.environments.lifeline import Guarded
from selector.demand.demand import Demand

PROGRAM = Path(selector.__file__).resolve().parent.parent / "autobackend.py"
"""Run as a script, so that the command is of the very code that the agent is of."""
KEPT_LINES = 40
"""Of what a command prints, so many are kept for an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    lines: tuple[str, ...]
    """The last ones that it printed."""

    @property
    def reason(self) -> str:
        """The first line of the error that it printed, else its last line."""
        errors = [line.removeprefix("error: ") for line in self.lines if line.startswith("error: ")]
        return (errors or list(self.lines) or [f"it ended with the code {self.code} and printed nothing"])[-1]


class Agent:
    """One on each node. `run` takes as long as its command; everything else may be called meanwhile."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Args:
        variables: over the node's own environment variables.
        """
        os.environ.update(variables)
        self._now = ""

    def describe(self) -> dict[str, Any]:
        """The version of autobackend, and the HostSpec of this machine."""
        from selector.host.spec import HostSpec

        return {"version": version("autobackend"), "host": HostSpec.detect()}

    def run(self, words: Sequence[str]) -> Ended:
        """Run `autobackend WORDS...` and return how it ended."""
        lines: list[str] = []
        with Guarded([sys.executable, str(PROGRAM), *words], variables=os.environ) as command:
            for line in command.lines():
                if line.strip():
                    self._now = line.strip()
                    lines = [*lines[1 - KEPT_LINES :], line.rstrip()]
            code = command.wait()
        self._now = ""
        return Ended(code=code, lines=tuple(lines))

    def now(self) -> str:
        """The last line that the command printed; empty while none runs."""
        return self._now

    def best(self, model: str, demand: Demand, cache: str) -> tuple[str, ...]:
        """The pick of this machine and who comes next, by what was measured here; empty where nothing was.

        Raises:
            AutobackendError: as select does.
        """
        from selector.answer import Source
        from selector.selection import choose

        answer = choose(model, demand, cache=cache)
        match answer.source:
            case Source.MEASURED | Source.FORCED:
                order = [ranked.candidate.label for ranked in answer.ranking]
            case Source.LAYERS:
                launched = {layers.record.candidate.label for layers in answer.layers}
                predicted = answer.prediction.predicted if answer.prediction else ()
                order = [row.candidate for row in predicted if row.candidate in launched]
            case _:
                return ()
        return tuple(dict.fromkeys((answer.candidate.label, *order)))[:2]
