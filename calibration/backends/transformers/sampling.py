"""How the next token of a request is chosen from the model's scores, and what is told of the others."""

import secrets
import zlib
from typing import Any

from calibration.engine.log_probabilities import step_scores
from calibration.engine.streams import Request, TokenScores


class Sampling:
    """Chooses the tokens of one request: greedily, or by temperature and top_p with random numbers of its own."""

    def __init__(self, request: Request) -> None:
        import torch

        self._request = request
        self._random = torch.Generator()
        # Of a seed it takes 32 bits.
        self._random.manual_seed(
            secrets.randbits(32) if request.seed is None else zlib.crc32(str(request.seed).encode())
        )

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token is chosen and nothing else is told."""
        return self._request.temperature == 0 and not self._request.logprobs

    def choose(self, row: Any) -> tuple[int, TokenScores | None]:
        """The next token, and the log-probabilities where the request asks for them.

        Args:
            row: logits [vocab], of torch, in float32 on the CPU.
        """
        token = int(row.argmax()) if self._request.temperature == 0 else self._drawn(row)
        return token, step_scores(row, token, self._request.logprobs) if self._request.logprobs else None

    def _drawn(self, row: Any) -> int:
        import torch

        probabilities, tokens = torch.sort(torch.softmax(row / self._request.temperature, -1), descending=True)
        # The fewest of the likeliest tokens whose probabilities make top_p.
        before = probabilities.cumsum(-1) - probabilities
        kept = probabilities.where(before < self._request.top_p, torch.zeros(()))
        return int(tokens[torch.multinomial(kept, 1, generator=self._random)])
