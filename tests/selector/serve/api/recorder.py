"""An observer that remembers all that it heard."""

from calibration.engine.streams import Finish
from selector.serve.upstream import Ask, Piece


class Recorder:
    """An observer, and all its observations."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def arrived(self, ask: Ask) -> "Recorder":
        self.heard.append(ask.max_tokens)
        return self

    def refused(self, status: int) -> None:
        self.heard.append(status)

    def gave(self, piece: Piece) -> None:
        self.heard.append((piece.tokens, piece.completion_tokens))

    def ended(self, finish: Finish | None) -> None:
        self.heard.append(finish)
