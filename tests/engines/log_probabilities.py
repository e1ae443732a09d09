"""Engines whose scores are made log probabilities: what llama-server gives of a model's logits."""

from collections.abc import Sequence

from calibration.backend import Engine, Generation, Rows
from tests.engines.tiny_models import rows


class LogProbabilities(Engine):
    """The reference, with its logits normalised: what llama-server gives."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        return self._engine.generate(prompts, new_tokens)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        import numpy as np

        scores = rows(self._engine.score(prompt, continuation)).astype(np.float64)
        return list(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))
