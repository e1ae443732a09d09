"""What stands between the API and an engine: what is asked, the pieces of an answer, and who gives them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from calibration.engine.streams import Ability, Delta, Finish, Request, TokenScores, abilities_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One answer that is asked for, read from a request's body and checked; see api/body/ask.py."""

    messages: tuple[Mapping[str, Any], ...] | None = None
    """Of a chat. Then there is no prompt."""
    prompt: str | tuple[int, ...] | None = None
    """Text, or token ids of the model's vocabulary."""
    max_tokens: int | None = None
    """None: as many as the context holds."""
    ignore_end: bool = False
    """Nothing but `max_tokens` ends the answer."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not told."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int = 0
    """See calibration.engine.streams.Request."""
    whole_ids: bool = False
    """The ids of all its tokens are told in the end, and nobody reads it before: it may come in one piece."""
    template: Mapping[str, Any] | None = None
    """Further names for the chat template (`chat_template_kwargs`)."""

    def needs(self) -> frozenset[Ability]:
        """What an engine must be able to do for it."""
        return abilities_for(temperature=self.temperature, top_p=self.top_p, seed=self.seed, logprobs=self.logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    """Ids of the tokens that have come since the last piece, where the engine tells them. Their text may come later: a
    character may need several tokens."""
    prompt: tuple[int, ...] = ()
    """Ids of the prompt, in the first piece, where they are known."""
    scores: tuple[TokenScores, ...] = ()
    """One for each of `tokens`, where they were asked for."""
    finish: Finish | None = None
    """In the last piece, which has the two counts as well."""
    prompt_tokens: int = 0
    """Told earlier, too, where it is known before the engine has ended."""
    completion_tokens: int = 0
    """New tokens of the whole answer, the one that ended it included."""


class Refused(Exception):
    """A request that cannot be answered as it is: told to the client, and nothing else changes.

    Args:
        status: of HTTP, 4xx.
        parameter: the field of the body that is to blame.
    """

    def __init__(
        self, message: str, *, status: int = 400, parameter: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.parameter, self.code = message, status, parameter, code


class Unavailable(Exception):
    """The engine is not there now: it is loading, ended, or is being stopped. HTTP 503.

    Args:
        retry_after_s: when it is worth asking again.
        code: of the error that tells it, where there is more to say than that it is not there.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.retry_after_s, self.code = message, retry_after_s, code


class Failed(Exception):
    """The engine could not answer this request, and goes on for others. HTTP 500."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Upstream(Protocol):
    """An engine that answers, wherever it runs. All of it is called on the event loop."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """What may be asked beside greedy tokens."""

    @property
    def context_tokens(self) -> int:
        """Longest sequence: prompt and new tokens."""

    @property
    def ready(self) -> bool:
        """Whether requests are answered now."""

    def answer(self, ask: Ask) -> AsyncIterator[Piece]:
        """Answer; closing the iterator before its end cancels the request and frees its place in the engine.

        Raises:
            Refused: before the first piece: this engine cannot answer that.
            Unavailable: before the first piece or later: the engine is gone.
            Failed: before the first piece or later: the engine could not answer this one.
        """


class Engine(Protocol):
    """An engine that streams tokens: a worker of ours. It is started, watched and restarted by its keeper."""

    @property
    def abilities(self) -> frozenset[Ability]: ...
    @property
    def ready(self) -> bool: ...

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """The deltas of a request; closing the iterator cancels it.

        Raises:
            Unavailable: the engine is gone, before or while it answered.
        """
