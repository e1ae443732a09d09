"""The decode loop as streams: one request after another, each token told as it comes."""

from collections.abc import Generator

from calibration.backends.transformers.decode_loop import DecodeLoop
from calibration.backends.transformers.sampling import Sampling
from calibration.engine.streams import Ability, Request, TokenByToken, TokenScores


class TokenLoop(TokenByToken):
    """The very loop that a calibration times and checks, for one request at a time."""

    abilities = frozenset(Ability)

    def __init__(self, loop: DecodeLoop) -> None:
        super().__init__()
        self._loop = loop

    def answer(self, request: Request) -> Generator[tuple[int, TokenScores | None]]:
        sampling, path = Sampling(request), list[int]()
        # What is chosen from a row is what the next one is asked for: `path` grows while it is read.
        for row in self._loop.rows(request.prompt, path):
            token, scores = sampling.choose(row)
            path.append(token)
            yield token, scores

    def close(self) -> None:
        self._loop.close()
