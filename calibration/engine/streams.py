"""Streams: an engine that serves requests which come and go; what a served request asks for and what each step gives.

Runs in the engine's interpreter: standard library only. One thread owns the streams: it adds and cancels requests
between two steps, and takes each step's tokens from `step`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from calibration.engine.engine import Engine


class Ability(StrEnum):
    """What a request may ask for beside greedy tokens; a request that asks for more than the engine can is refused."""

    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    SEED = "seed"
    LOGPROBS = "logprobs"


def abilities_for(*, temperature: float, top_p: float, seed: int | None, logprobs: int) -> frozenset[Ability]:
    """What an engine must be able to do for what a request asks.

    >>> sorted(abilities_for(temperature=0.5, top_p=1.0, seed=7, logprobs=0))
    [<Ability.SEED: 'seed'>, <Ability.TEMPERATURE: 'temperature'>]
    """
    wanted = {
        Ability.TEMPERATURE: temperature > 0,
        Ability.TOP_P: temperature > 0 and top_p < 1,
        Ability.SEED: temperature > 0 and seed is not None,
        Ability.LOGPROBS: logprobs > 0,
    }
    return frozenset(ability for ability, is_wanted in wanted.items() if is_wanted)


class Finish(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    """The model ended its answer."""
    LENGTH = "length"
    """It has as many tokens as were asked for."""
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of an engine for one prompt.

    Raises:
        ValueError: a field that no engine could heed.
    """

    id: str
    """Unique among the requests that run or wait."""
    prompt: tuple[int, ...]
    max_tokens: int
    """New tokens at most; the caller has seen to it that prompt and new tokens fit in the context."""
    end_tokens: frozenset[int] = frozenset()
    """The first of these ends the request; it is counted, and told as the last token. Empty: nothing but `max_tokens`
    ends it, whatever the checkpoint says."""
    temperature: float = 0.0
    """0: greedy."""
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int = 0
    """How many of the likeliest tokens are told with their log-probabilities at each step, beside the chosen one's; 0:
    none is."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("needs a prompt of at least one token; found none")
        if self.max_tokens < 1:
            raise ValueError(f"needs at least one new token; found max_tokens {self.max_tokens}")
        if not self.temperature >= 0:
            raise ValueError(f"needs a temperature of 0 or more; found {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"needs a top_p above 0 and up to 1; found {self.top_p:g}")
        if self.logprobs < 0:
            raise ValueError(f"needs logprobs of 0 or more; found {self.logprobs}")

    def needs(self) -> frozenset[Ability]:
        """What an engine must be able to do for this request."""
        return abilities_for(temperature=self.temperature, top_p=self.top_p, seed=self.seed, logprobs=self.logprobs)

    def finish(self, token: int, count: int) -> "Finish | None":
        """How the answer ends with this new token, the `count`th; None: it goes on."""
        if token in self.end_tokens:
            return Finish.STOP
        return Finish.LENGTH if count >= self.max_tokens else None

    def check_fits(self, context_tokens: int) -> None:
        """Raises ValueError: prompt and new tokens are more than `context_tokens`."""
        tokens = len(self.prompt) + self.max_tokens
        if tokens > context_tokens:
            raise ValueError(f"needs prompt and new tokens of at most {context_tokens}; found {tokens}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """Log-probabilities at one step, nats: the model's own, before temperature and top_p."""

    chosen: float
    likeliest: tuple[tuple[int, float], ...] = ()
    """(token, log-probability), the likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a step gave one request."""

    id: str
    tokens: tuple[int, ...] = ()
    scores: tuple[TokenScores, ...] = ()
    """One for each token where the request asked for logprobs; else empty."""
    finish: Finish | None = None
    """None: it goes on. After a delta with a finish nothing more comes for this id."""
    message: str = ""
    """Why it failed, where the finish is ERROR."""


class Streams(ABC):
    """An engine that runs several requests at once, a step at a time. Used by one thread."""

    abilities: ClassVar[frozenset[Ability]] = frozenset()
    batching: ClassVar[str] = "continuous"
    """`continuous`: a request joins those that run. `static`: it waits until a batch ends. `none`: one after another.
    `turns`: several run, and take turns step by step. Screens tell it."""
    sequences_held: ClassVar[int] = 0
    """Sequences whose keys and values the engine holds at once, however many wait; 0: of all that run."""
    prompts_at_once: ClassVar[int] = 0
    """Prompts that a step computes at most; 0: all that have come."""
    prompt_tokens_at_once: ClassVar[int] = 0
    """Tokens of prompts that a step computes at most; 0: whole prompts."""

    @property
    @abstractmethod
    def running(self) -> int:
        """Requests that the engine works on; those that wait in it included."""

    @abstractmethod
    def add(self, request: Request) -> None:
        """Take a request; its tokens come from the steps that follow.

        Raises:
            ValueError: the engine cannot take it, and why; the others go on.
        """

    @abstractmethod
    def step(self) -> Sequence[Delta]:
        """Do one step for the requests that run; it blocks at most for the time of one step.

        An engine that fails for one request tells it with Finish.ERROR; one that fails as a whole raises.
        """

    @abstractmethod
    def cancel(self, request_id: str) -> None:
        """End a request now and free its place; no delta follows. An unknown id is not an error: it may have ended."""

    def close(self) -> None:
        """Free what can be freed; the process ends right after."""


class OneAfterAnother(Streams):
    """Streams of an engine that can only `generate`: requests wait in a queue, and each answer comes whole."""

    batching = "none"
    sequences_held = 1

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[Request] = deque()

    @property
    def running(self) -> int:
        return len(self._waiting)

    def add(self, request: Request) -> None:
        self._waiting.append(request)

    def step(self) -> Sequence[Delta]:
        request = self._waiting.popleft()
        [row] = self._engine.generate([request.prompt], request.max_tokens).tokens
        path = tuple(map(int, row))
        ended = next((place for place, token in enumerate(path) if token in request.end_tokens), None)
        if ended is None:
            return [Delta(id=request.id, tokens=path, finish=Finish.LENGTH)]
        return [Delta(id=request.id, tokens=path[: ended + 1], finish=Finish.STOP)]

    def cancel(self, request_id: str) -> None:
        self._waiting = deque(request for request in self._waiting if request.id != request_id)

    def close(self) -> None:
        self._engine.close()


class TokenByToken(Streams):
    """Streams of an engine that answers one request at a time, and tells each token as it comes; the others wait."""

    batching = "none"
    sequences_held = 1

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._answered: Request | None = None
        self._answer: Generator[tuple[int, TokenScores | None]] | None = None
        self._told = 0

    @abstractmethod
    def answer(self, request: Request) -> Generator[tuple[int, TokenScores | None]]:
        """Yield the new tokens as they come, with their scores where those are asked for.

        It is closed after the last token that is wanted: after an end token, after `max_tokens`, and where the request
        is cancelled. It need not look at either; closing it leaves the engine ready for the next request.
        """

    @property
    def running(self) -> int:
        return len(self._waiting) + (self._answered is not None)

    def add(self, request: Request) -> None:
        self._waiting.append(request)

    def step(self) -> Sequence[Delta]:
        if self._answered is None or self._answer is None:
            self._answered = self._waiting.popleft()
            self._answer, self._told = self.answer(self._answered), 0
        request = self._answered
        try:
            token, scores = next(self._answer)
        except StopIteration:
            message = f"the engine stopped after {self._told} of {request.max_tokens} tokens"
            self._end()
            return [Delta(id=request.id, finish=Finish.ERROR, message=message)]
        self._told += 1
        finish = request.finish(token, self._told)
        if finish is not None:
            self._end()
        return [Delta(id=request.id, tokens=(token,), scores=(scores,) if scores else (), finish=finish)]

    def cancel(self, request_id: str) -> None:
        if self._answered is not None and self._answered.id == request_id:
            self._end()
        self._waiting = deque(request for request in self._waiting if request.id != request_id)

    def _end(self) -> None:
        answer, self._answered, self._answer = self._answer, None, None
        if answer is not None:
            answer.close()
