"""Who is told what becomes of the requests: counters, histograms and gauges hang here."""

from typing import Protocol

from calibration.engine.streams import Finish
from selector.serve.upstream import Ask, Piece


class Observation(Protocol):
    """Follows one answer. Called on the event loop when a piece comes from the engine, not when the client reads it."""

    def gave(self, piece: Piece) -> None:
        """A piece came; the first one is the first token, and the last one has the counts."""

    def ended(self, finish: Finish | None) -> None:
        """Nothing more comes; called once. CANCELLED: the client left; None: it was refused, and nothing was run."""


class Observer(Protocol):
    """Follows all requests. Called on the event loop: it must be quick and must not raise."""

    def arrived(self, ask: Ask) -> Observation:
        """An answer is asked for; a request with several prompts asks for several."""

    def refused(self, status: int) -> None:
        """A request of the API got an error for an answer: its status of HTTP."""


class Unobserved:
    """Nobody is told."""

    def arrived(self, ask: Ask) -> Observation:
        return self

    def refused(self, status: int) -> None: ...

    def gave(self, piece: Piece) -> None: ...

    def ended(self, finish: Finish | None) -> None: ...
