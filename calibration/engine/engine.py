"""Engine: a loaded model, and what a generate call of it gives."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """New tokens of one generate call."""

    tokens: tuple[tuple[int, ...], ...]
    """[batch, new_tokens]"""
    arrivals: tuple[tuple[float, ...], ...]
    """[batch, new_tokens] seconds since the call at which each token was there."""


class StoppedEarly(RuntimeError):
    """The engine gave another number of tokens than it was asked for: its times mean nothing, its output is wrong."""


class Engine(ABC):
    """A loaded model. Used by one thread."""

    scores_its_steps: ClassVar[bool] = False
    """`score` takes the very steps of `generate`, so the correctness check asks for scores of longer prompts alone."""
    scores_long_prompts: ClassVar[bool] = True
    """False: `score` holds the scores of a whole prompt at once. A long prompt has gigabytes of them, which would count
    as memory that the engine needs, so the correctness check asks for its choices alone."""

    @abstractmethod
    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """Greedy, exactly `new_tokens` tokens for every prompt, EOS ignored. Prompts of a call have the same length."""

    @abstractmethod
    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        """Next-token scores along a given continuation.

        Returns:
            [len(continuation) + 1, vocab] logits or log-probabilities (the reader normalises them): row i is for the
            token after prompt + continuation[:i], computed the way the engine decodes where it can. Rows may be any
            buffers of floats (array, numpy, torch on the CPU). None where the engine gives no scores.
        """

    def score_greedy(self, prompt: Sequence[int], new_tokens: int) -> tuple[Sequence[int], Rows | None]:
        """The greedy path of a reference, [new_tokens], and the scores along it, as `score` gives them.

        An engine that chooses its tokens from these scores gives both in one pass.
        """
        [path] = self.generate([prompt], new_tokens).tokens
        return path, self.score(prompt, path[:-1])

    def score_each(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> Iterator[Rows | None]:
        """`score` for each prompt. An engine that reads its weights anew for each forward reads them once for all."""
        for prompt, continuation in zip(prompts, continuations, strict=True):
            yield self.score(prompt, continuation)

    def score_greedy_each(
        self, prompts: Sequence[Sequence[int]], new_tokens: int
    ) -> Iterator[tuple[Sequence[int], Rows | None]]:
        """`score_greedy` for each prompt."""
        for prompt in prompts:
            yield self.score_greedy(prompt, new_tokens)

    def close(self) -> None:
        """Free what can be freed; the process ends right after."""
