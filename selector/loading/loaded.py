"""LoadedEngine: an engine that was loaded for a selection, ready to generate and to stream, here or in a worker."""

import itertools
from abc import abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

from calibration.backend import Engine
from calibration.engine.streams import Ability, Delta, Finish, Request
from calibration.errors import BackendError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was loaded, and for how much."""

    label: str
    model: str
    max_context_tokens: int
    """Longest sequence, prompt and new tokens."""
    vocab_size: int


class LoadedEngine(Engine):
    """An engine of a selection. As a context manager it closes itself; else `close` it, or let it end with the program.

    Prompts are token ids.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._numbers = itertools.count(1)

    @property
    @abstractmethod
    def abilities(self) -> frozenset[Ability]:
        """What `stream` may be asked for beside greedy tokens."""

    def stream(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        *,
        end_tokens: Iterable[int] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        logprobs: int = 0,
    ) -> Generator[Delta]:
        """The tokens of an answer as they come; the last delta tells why it ended. Closing the iterator ends it sooner.

        Args:
            prompt: token ids.
            max_tokens: new tokens at most.
            end_tokens: the first of these ends the answer and is told as its last token; by default nothing but
                `max_tokens` ends it.
            temperature: 0 is greedy.
            logprobs: how many of the likeliest tokens are told at each step, with their log-probabilities.

        Raises:
            UsageError: a prompt or a value that cannot be, more tokens than the engine was loaded for, or what it
                cannot do.
            BackendError: the engine failed; raised when the next delta is asked for.
        """
        request = self._request(
            prompt,
            max_tokens,
            end_tokens=frozenset(end_tokens),
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            logprobs=logprobs,
        )
        if lacking := request.needs() - self.abilities:
            raise UsageError(f"{self._loaded.label} has no {' and no '.join(sorted(lacking))} when it streams")
        return self._told(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _deltas(self, request: Request) -> Generator[Delta]:
        """The deltas of a request; closing the generator cancels it."""

    def _request(self, prompt: Sequence[int], max_tokens: int, **how: Any) -> Request:
        """Raises UsageError for what cannot be asked of an engine that was loaded for so many tokens."""
        loaded, tokens = self._loaded, tuple(map(int, prompt))
        try:
            request = Request(id=f"request-{next(self._numbers)}", prompt=tokens, max_tokens=max_tokens, **how)
        except ValueError as error:
            raise UsageError(str(error)) from error
        strange = next((token for token in tokens if not 0 <= token < loaded.vocab_size), None)
        if strange is not None:
            raise UsageError(f"{loaded.model} has token ids from 0 to {loaded.vocab_size - 1}; found {strange}")
        if len(tokens) + max_tokens > loaded.max_context_tokens:
            raise UsageError(
                f"{loaded.label} was loaded for {loaded.max_context_tokens} tokens;"
                f" found a prompt of {len(tokens)} and {max_tokens} new ones",
                f"load it for more: load(max_context_tokens={len(tokens) + max_tokens})",
            )
        return request

    def _told(self, request: Request) -> Generator[Delta]:
        with closing(self._deltas(request)) as deltas:
            for delta in deltas:
                if delta.finish is Finish.ERROR:
                    raise BackendError(
                        f"{self._loaded.label} failed for a request to {self._loaded.model}: {delta.message}"
                    )
                yield delta
