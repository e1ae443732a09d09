"""Progress: a calibration's events on a terminal as one living line, elsewhere as plain lines."""

import time
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from calibration.measurement import Failure, Measurement
from selector.planning.plan import Plan
from selector.planning.preparations import Preparations
from selector.screens.calibrate import header, launched, left, prepares, step
from selector.screens.text import seconds

EVERY_S = 20.0
"""How often plain lines tell how far a conversion is."""


class Progress:
    """A reporter for calibrate(); a context manager, since a living line must be ended.

    Args:
        console: of stderr.
        random_weights: what the user asked for, for the header.
    """

    def __init__(
        self, console: Console, *, random_weights: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._random_weights = random_weights
        self._clock = clock
        self._bar: Bar | None = None
        self._round = ""
        self._candidate = ""
        self._said_s = 0.0
        """Seconds into the running conversion at which it was told last."""
        self._end_s: float | None = None
        """When, on the clock, it will probably be over."""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Bar(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, left="", visible=False)
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def event(self, name: str, **fields: Any) -> None:
        """Show what the runner says."""
        match name, fields:
            case "plan", {"plan": Plan() as plan}:
                self._lines(header(plan, random_weights=self._random_weights, across=self._across))
            case "preparations", {"made": Preparations() as made}:
                self._lines([*prepares(made, across=self._across), ""])
            case "round", {"number": number, "of": of}:
                self._round = f"round {number} of at most {of}"
            case "launch", {"candidate": candidate}:
                self._candidate = candidate
                self._said_s = 0.0
                remaining = fields.get("left_s")
                self._end_s = None if remaining is None else self._clock() + remaining
                self._step("starting")
            case (("measured" | "failed"), {"outcome": (Measurement() | Failure()) as outcome}):
                self._line(launched(outcome))
            case "out", {"candidate": candidate, "number": number}:
                self._line(f"{candidate} is out after round {number}: slower on every cell")
            case "given up", {"candidate": candidate, "seconds": took, "cells": cells, "of": of}:
                kept = f"{cells} of {of} cells are kept" if cells else "nothing was timed yet"
                self._line(f"{candidate} was given up after {seconds(took)}, for the budget's sake: {kept}")
            case "end", _:
                self._candidate = ""
            case "reference_failed", _:
                self._line(step(name, fields))
            case _ if text := self._worth(name, fields):
                self._step(text)

    @property
    def _across(self) -> int | None:
        return self._console.width if self._console.is_terminal else None

    def _worth(self, name: str, fields: dict[str, Any]) -> str:
        """What an event says; how far a conversion is only once in a while where lines stay."""
        if name == "preparing" and self._bar is None:
            if fields["elapsed_s"] < self._said_s + EVERY_S:
                return ""
            self._said_s = fields["elapsed_s"]
        return step(name, fields)

    def _lines(self, texts: list[str]) -> None:
        for text in texts:
            self._line(text)

    def _line(self, text: str) -> None:
        # Text, not str: brackets in paths and messages are no markup; and no wrapping of what others may parse.
        self._console.print(Text(text), soft_wrap=True, highlight=False)

    def _step(self, text: str) -> None:
        told = "  ".join(part for part in (self._round, self._candidate, text) if part)
        remaining = left(None if self._end_s is None else max(0.0, self._end_s - self._clock()))
        if self._bar is not None:
            self._bar.update(self._task, description=told, left=remaining, visible=True)
        elif not text.startswith("cell ") or text.startswith("cell 1/"):
            self._line("  ".join(part for part in (told, remaining) if part))
