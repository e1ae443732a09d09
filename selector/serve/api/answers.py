"""Answers as OpenAI's API writes them: one JSON object, or chunks of a stream of events."""

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from calibration.engine.streams import Finish, TokenScores
from selector.serve.api.body.ask import Body
from selector.serve.language.vocabulary import Token
from selector.serve.upstream import Piece

LEAST_LOGPROB: Final = -9999.0
"""What OpenAI's API tells of tokens that are as good as impossible; JSON has no infinity."""

DONE: Final = b"data: [DONE]\n\n"
_REASONS: Final = {Finish.STOP: "stop", Finish.LENGTH: "length"}

_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event(content: Mapping[str, Any]) -> bytes:
    """An event of a stream."""
    return f"data: {_to_json(content)}\n\n".encode()


class Answer(ABC):
    """The answer to one request, of which each choice is written from the pieces of an upstream.

    Args:
        name_token: what a token is called, for log-probabilities.
    """

    whole_kind: ClassVar[str]
    chunk_kind: ClassVar[str]
    id_prefix: ClassVar[str]
    around_text: ClassVar[tuple[str, str]]
    """What stands before and after the text in a choice of a plain chunk."""

    def __init__(self, body: Body, name_token: Callable[[int], Token]) -> None:
        self._body, self._name_token = body, name_token
        self._created = int(time.time())
        self._id = f"{self.id_prefix}-{uuid.uuid4().hex}"
        self._running = len(body.asks)
        self._pieces: list[list[Piece]] = [[] for _ in body.asks]
        self._lengths = [0] * len(body.asks)
        """Characters of each choice so far."""
        self._prompt_tokens = self._completion_tokens = 0
        self._frames: dict[int, tuple[str, str]] = {}
        """What stands before and after the text in a choice's plain chunks: written once."""

    @property
    def ended(self) -> bool:
        """Whether every choice has come to its end."""
        return not self._running

    def add(self, index: int, piece: Piece) -> None:
        """Count a piece of a choice; a stream, which has told it, does not keep it."""
        if not self._body.stream:
            self._pieces[index].append(piece)
        if piece.finish is not None:
            self._running -= 1
            self._prompt_tokens += piece.prompt_tokens
            self._completion_tokens += piece.completion_tokens

    def whole(self) -> Mapping[str, Any]:
        """The answer in one object, once it has ended."""
        joined = [_joined(pieces) for pieces in self._pieces]
        choices = [self._choice(index, piece) for index, piece in enumerate(joined)]
        return {**self._head(self.whole_kind, joined[0]), "choices": choices, "usage": self._usage()}

    def chunk(self, index: int, piece: Piece) -> bytes:
        """The event that tells a piece."""
        if self._is_plain(piece):
            return self._plain_chunk(index, piece)
        usage = {"usage": None} if self._body.usage_in_stream else {}
        return event({**self._head(self.chunk_kind, piece), "choices": [self._delta(index, piece)], **usage})

    def last(self) -> bytes:
        """What a stream ends with."""
        if not self._body.usage_in_stream:
            return DONE
        return event({**self._head(self.chunk_kind, Piece()), "choices": [], "usage": self._usage()}) + DONE

    def _head(self, kind: str, piece: Piece) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._body.model}

    def _usage(self) -> Mapping[str, int]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "total_tokens": self._prompt_tokens + self._completion_tokens,
        }

    def _common(self, index: int, piece: Piece) -> dict[str, Any]:
        """What a choice has in both APIs and in both forms."""
        token_ids = {"token_ids": list(piece.tokens)} if self._body.token_ids else {}
        logprobs = None
        if self._body.likeliest is not None and piece.scores:
            logprobs = self._logprobs(index, piece, self._body.likeliest)
        return {
            "index": index,
            "logprobs": logprobs,
            "finish_reason": None if piece.finish is None else _REASONS[piece.finish],
            **token_ids,
        }

    def _prompt_ids(self, piece: Piece) -> dict[str, Any]:
        """vLLM tells them in each choice of a completion, and beside the choices of a chat."""
        return {"prompt_token_ids": list(piece.prompt)} if self._body.token_ids and piece.prompt else {}

    def _is_plain(self, piece: Piece) -> bool:
        """Whether its chunk has nothing but text and token ids of its own, as most have."""
        return piece.finish is None and not piece.scores and not piece.prompt

    def _plain_chunk(self, index: int, piece: Piece) -> bytes:
        """The same event, of which only text and token ids are written anew."""
        frame = self._frames.get(index) or self._frame(index)
        before, after = self._frames[index] = frame
        ids = f',"token_ids":[{",".join(map(str, piece.tokens))}]' if self._body.token_ids else ""
        end = '}],"usage":null}' if self._body.usage_in_stream else "}]}"
        return f"data: {before}{_to_json(piece.text)}{after}{ids}{end}\n\n".encode()

    def _frame(self, index: int) -> tuple[str, str]:
        head, common = _to_json(self._head(self.chunk_kind, Piece())), self._common(index, Piece())
        common.pop("token_ids", None)
        before, after = self.around_text
        return f'{head[:-1]},"choices":[{before}', f"{after},{_to_json(common)[1:-1]}"

    @abstractmethod
    def _choice(self, index: int, piece: Piece) -> Mapping[str, Any]:
        """A choice of a whole answer; the piece is all of it."""

    @abstractmethod
    def _delta(self, index: int, piece: Piece) -> Mapping[str, Any]:
        """A choice of a chunk."""

    @abstractmethod
    def _logprobs(self, index: int, piece: Piece, likeliest: int) -> Mapping[str, Any]:
        """The log-probabilities of a piece's tokens."""


class CompletionAnswer(Answer):
    """Of /v1/completions."""

    whole_kind = chunk_kind = "text_completion"
    id_prefix = "cmpl"
    around_text = ('{"text":', "")

    def _choice(self, index: int, piece: Piece) -> Mapping[str, Any]:
        return {"text": piece.text, **self._common(index, piece), **self._prompt_ids(piece)}

    def _delta(self, index: int, piece: Piece) -> Mapping[str, Any]:
        return self._choice(index, piece)

    def _logprobs(self, index: int, piece: Piece, likeliest: int) -> Mapping[str, Any]:
        names = [self._name_token(token).text for token in piece.tokens]
        offsets = []
        for name in names:
            offsets.append(self._lengths[index])
            self._lengths[index] += len(name)
        return {
            "tokens": names,
            "token_logprobs": [_finite(scores.chosen) for scores in piece.scores],
            "top_logprobs": [self._likeliest(scores, likeliest) for scores in piece.scores] if likeliest else None,
            "text_offset": offsets,
        }

    def _likeliest(self, scores: TokenScores, count: int) -> dict[str, float]:
        """Of tokens with the same text the likeliest is told."""
        told: dict[str, float] = {}
        for token, score in scores.likeliest[:count]:
            told.setdefault(self._name_token(token).text, _finite(score))
        return told


class ChatAnswer(Answer):
    """Of /v1/chat/completions."""

    whole_kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    id_prefix = "chatcmpl"
    around_text = ('{"delta":{"content":', "}")

    def __init__(self, body: Body, name_token: Callable[[int], Token]) -> None:
        super().__init__(body, name_token)
        self._begun = False

    def _head(self, kind: str, piece: Piece) -> dict[str, Any]:
        return {**super()._head(kind, piece), **self._prompt_ids(piece)}

    def _is_plain(self, piece: Piece) -> bool:
        """The first chunk tells the role, too."""
        return self._begun and super()._is_plain(piece)

    def _choice(self, index: int, piece: Piece) -> Mapping[str, Any]:
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        return {"message": message, **self._common(index, piece)}

    def _delta(self, index: int, piece: Piece) -> Mapping[str, Any]:
        """The role stands in the first chunk, beside its text: a chunk of its own would tell of no token."""
        role = {} if self._begun else {"role": "assistant"}
        self._begun = True
        return {"delta": {**role, "content": piece.text}, **self._common(index, piece)}

    def _logprobs(self, index: int, piece: Piece, likeliest: int) -> Mapping[str, Any]:
        content = [
            {
                **self._named(token, scores.chosen),
                "top_logprobs": [self._named(other, score) for other, score in scores.likeliest[:likeliest]],
            }
            for token, scores in zip(piece.tokens, piece.scores, strict=True)
        ]
        return {"content": content, "refusal": None}

    def _named(self, token: int, score: float) -> dict[str, Any]:
        name = self._name_token(token)
        return {"token": name.text, "logprob": _finite(score), "bytes": list(name.raw)}


def number_token(token: int) -> Token:
    """What a token is called where there is no tokenizer, as vLLM calls it then."""
    name = f"token_id:{token}"
    return Token(text=name, raw=name.encode())


def _joined(pieces: Sequence[Piece]) -> Piece:
    tokens: list[int] = []
    scores: list[TokenScores] = []
    for piece in pieces:
        tokens += piece.tokens
        scores += piece.scores
    text = "".join(piece.text for piece in pieces)
    return Piece(
        text=text, tokens=tuple(tokens), prompt=pieces[0].prompt, scores=tuple(scores), finish=pieces[-1].finish
    )


def _finite(score: float) -> float:
    return max(score, LEAST_LOGPROB)
