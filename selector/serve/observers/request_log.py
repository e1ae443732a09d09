"""RequestLog: a line for each request, without a word of what was asked or answered."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from calibration.engine.streams import Finish
from selector.serve.observers.observer import Observation, Observer
from selector.serve.upstream import Ask, Piece


@dataclass(frozen=True, slots=True)
class Several:
    """Tells several observers of the same requests."""

    observers: Sequence[Observer]

    def arrived(self, ask: Ask) -> Observation:
        """See Observer."""
        return _SeveralOfOne([observer.arrived(ask) for observer in self.observers])

    def refused(self, status: int) -> None:
        """See Observer."""
        for observer in self.observers:
            observer.refused(status)


@dataclass(frozen=True, slots=True)
class _SeveralOfOne:
    observations: Sequence[Observation]

    def gave(self, piece: Piece) -> None:
        for observation in self.observations:
            observation.gave(piece)

    def ended(self, finish: Finish | None) -> None:
        for observation in self.observations:
            observation.ended(finish)


class RequestLog:
    """An observer that writes lines.

    Args:
        say: is told each line.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock

    def arrived(self, ask: Ask) -> Observation:
        """See Observer."""
        return _Line(self._say, self._clock)

    def refused(self, status: int) -> None:
        """See Observer."""
        self._say(f"answered with {status}")


class _Line:
    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._say, self._clock, self._arrived_s = say, clock, clock()
        self._first_s: float | None = None
        self._prompt_tokens = self._tokens = 0

    def gave(self, piece: Piece) -> None:
        if self._first_s is None and (piece.tokens or piece.text):
            self._first_s = self._clock()
        self._prompt_tokens = piece.prompt_tokens or self._prompt_tokens
        self._tokens = piece.completion_tokens or self._tokens + len(piece.tokens)

    def ended(self, finish: Finish | None) -> None:
        if finish is None:
            return
        prompt = f"{self._prompt_tokens:,} prompt tokens, " if self._prompt_tokens else ""
        first = "" if self._first_s is None else f", the first after {self._first_s - self._arrived_s:.2f} s"
        taken_s = self._clock() - self._arrived_s
        self._say(f"{prompt}{self._tokens:,} new ones in {taken_s:.2f} s{first}: {finish}")
