"""Progress: shows a calibration's events, on a terminal as one line that changes, elsewhere as plain lines."""

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from calibration.events import (
    CandidateOut,
    CellBegan,
    LaunchBegan,
    LaunchEnded,
    LaunchEvent,
    LaunchGivenUp,
    PointBegan,
    PointEnded,
    RaceEnded,
    ReferenceFailed,
    RoundBegan,
    RungBegan,
    ServedCheckBegan,
    ServedCheckEnded,
    ServerBegan,
    ServerGivenUp,
    ServerReady,
    ServingEvent,
    Standing,
    WritingContinues,
)
from selector.planning.events import (
    CalibrationEvent,
    LadderPlanned,
    Planned,
    PreparationsKnown,
    ProbeBegan,
    ProbeEnded,
    ProbeFailed,
)
from selector.screens.calibration.steps import given_up, header, ladder, launched, prepares, serving, standing, step
from selector.screens.host import probing
from selector.screens.remaining import left

EVERY_S = 20.0
"""How often plain lines show how far a conversion is."""


class Progress:
    """A reporter for calibrate(); a context manager, since the line that changes must be taken away.

    Args:
        console: of stderr.
        random_weights: the user asked for them; the header says so.
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
        self._shown_s = 0.0
        """Seconds into what is being written at which a line last showed how far it is."""
        self._end_s: float | None = None
        """When, on the clock, the calibration will probably be over."""

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

    def report(self, event: CalibrationEvent, /) -> None:
        """Show it."""
        match event:
            case Planned(plan=plan):
                self._lines(header(plan, random_weights=self._random_weights, across=self._across))
            case PreparationsKnown(preparations=preparations):
                self._lines([*prepares(preparations, across=self._across), ""])
            case LadderPlanned(reaches=reaches):
                self._lines([*ladder(reaches, across=self._across), ""])
            case ProbeBegan() | ProbeEnded() | ProbeFailed():
                self._lines(probing(event))
            case RoundBegan() | RungBegan() | LaunchBegan():
                self._begin(event)
            case (
                ServerBegan()
                | ServerReady()
                | ServedCheckBegan()
                | ServedCheckEnded()
                | PointBegan()
                | PointEnded()
                | ServerGivenUp()
            ):
                self._serve(event)
            case Standing(picks=picks, sureness=sureness):
                self._line(standing(picks, sureness))
            case LaunchEnded() | LaunchGivenUp() | CandidateOut():
                self._end(event)
            case ReferenceFailed(message=message):
                self._line(f"no reference, outputs stay unchecked: {message}")
            case RaceEnded():
                self._candidate = ""
            case _ if self._bar is not None or self._is_worth_a_line(event):
                self._step(step(event))

    def _begin(self, event: RoundBegan | RungBegan | LaunchBegan) -> None:
        match event:
            case RoundBegan(number=number, of=of):
                self._round = f"round {number} of at most {of}"
            case RungBegan(rung=rung):
                self._round, self._candidate = str(rung), ""
            case LaunchBegan(candidate=candidate, left_s=left_s, rung=rung):
                self._round = str(rung) if rung else self._round
                self._candidate = candidate
                self._shown_s = 0.0
                self._end_s = None if left_s is None else self._clock() + left_s
                self._step("starting")

    def _serve(self, event: ServingEvent) -> None:
        match event:
            case ServerBegan(candidate=candidate, left_s=left_s):
                self._candidate = candidate
                self._end_s = None if left_s is None else self._clock() + left_s
                self._step(serving(event))
            case ServerReady() | ServedCheckBegan() | PointBegan():
                self._step(serving(event))
            case ServedCheckEnded() | PointEnded() | ServerGivenUp():
                self._line(f"{event.candidate}, {serving(event)}")

    def _end(self, event: LaunchEnded | LaunchGivenUp | CandidateOut) -> None:
        match event:
            case LaunchEnded(outcome=outcome):
                self._line(launched(outcome))
            case LaunchGivenUp():
                self._line(given_up(event))
            case CandidateOut(candidate=candidate, number=number, why=why):
                self._line(f"{candidate} is out after round {number}: {why}")

    def _is_worth_a_line(self, event: LaunchEvent) -> bool:
        """Lines stay: how far something is written is worth one in a while, and of the cells the first."""
        match event:
            case WritingContinues(elapsed_s=elapsed_s):
                if elapsed_s < self._shown_s + EVERY_S:
                    return False
                self._shown_s = elapsed_s
                return True
            case CellBegan(number=number):
                return number == 1
            case _:
                return True

    @property
    def _across(self) -> int | None:
        return self._console.width if self._console.is_terminal else None

    def _lines(self, texts: list[str]) -> None:
        for text in texts:
            self._line(text)

    def _line(self, text: str) -> None:
        # Text, not str, since brackets in paths and messages are not markup; unwrapped, since others may parse it.
        self._console.print(Text(text), soft_wrap=True, highlight=False)

    def _step(self, text: str) -> None:
        shown = "  ".join(part for part in (self._round, self._candidate, text) if part)
        remaining = left(None if self._end_s is None else max(0.0, self._end_s - self._clock()))
        if self._bar is not None:
            self._bar.update(self._task, description=shown, left=remaining, visible=True)
        else:
            self._line("  ".join(part for part in (shown, remaining) if part))
