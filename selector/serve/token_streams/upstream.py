"""An upstream made of an engine that streams tokens and of a model's text."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, cast

from calibration.engine.streams import Ability, Delta, Finish, Request
from selector.serve.language.detokeniser import StopTexts
from selector.serve.language.text import Prompt, Text
from selector.serve.upstream import Ask, Engine, Failed, Piece, Refused

_LONG_CHARACTERS: Final = 4000
"""Text that is longer is encoded on another thread: tokenizers take 1 to 2 ms for so much, a step of an engine."""


class TokenUpstream:
    """Answers asks by what an engine streams.

    Args:
        text: None: token ids only, in and out.
        context_tokens: longest sequence that the engine was loaded for.
        vocab_size: ids of a prompt are below it.
        engine_name: how refusals name the engine.
    """

    def __init__(
        self,
        engine: Engine,
        text: Text | None,
        *,
        context_tokens: int,
        vocab_size: int,
        engine_name: str = "the engine",
    ) -> None:
        self._engine, self._text = engine, text
        self._context_tokens, self._vocab_size, self._engine_name = context_tokens, vocab_size, engine_name
        self._numbers = itertools.count(1)

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._engine.abilities

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def ready(self) -> bool:
        return self._engine.ready

    async def answer(self, ask: Ask) -> AsyncIterator[Piece]:
        """See Upstream."""
        request = await self._request(ask)
        writing = _Writing(request, self._text, ask.stop)
        deltas = cast("AsyncGenerator[Delta, None]", self._engine.stream(request))
        async with aclosing(deltas):  # where a stop text ended the answer, this cancels the engine's request
            async for delta in deltas:
                if delta.finish in (Finish.ERROR, Finish.CANCELLED):
                    raise Failed(f"{self._engine_name} could not answer: {delta.message or delta.finish}")
                piece = writing.add(delta)
                yield piece
                if piece.finish is not None:
                    return
        raise Failed(f"{self._engine_name} stopped without an end of the answer")

    async def _request(self, ask: Ask) -> Request:
        prompt = await self._prompt(ask)
        field = "prompt" if ask.messages is None else "messages"
        self._check(ask, field, prompt)
        request = Request(
            id=str(next(self._numbers)),
            prompt=prompt.tokens,
            max_tokens=ask.max_tokens or self._context_tokens - len(prompt.tokens),
            end_tokens=self._text.end_tokens if self._text and not ask.ignore_end else frozenset(),
            temperature=ask.temperature,
            top_p=ask.top_p,
            seed=ask.seed,
            logprobs=ask.logprobs,
        )
        for ability in sorted(request.needs() - self.abilities):
            raise Refused(
                f"{self._engine_name} has no `{ability}` as it is served here; leave it out",
                parameter=ability,
                code="unsupported",
            )
        if ask.stop and self._text is None:
            raise Refused(
                "this model has no tokenizer, so that it knows no text: `stop` is not possible", parameter="stop"
            )
        return request

    async def _prompt(self, ask: Ask) -> Prompt:
        if isinstance(ask.prompt, tuple):
            return Prompt(tokens=ask.prompt)
        if self._text is None:
            raise Refused(
                "this model has no tokenizer (tokenizer.json), so that it takes token ids only: "
                "ask /v1/completions with a list of ids as `prompt`",
                parameter="prompt" if ask.messages is None else "messages",
                code="no_tokenizer",
            )
        encode: Callable[[], Prompt]
        if ask.messages is None:
            prompt = ask.prompt or ""
            characters = len(prompt)
            encode = partial(self._text.encode, prompt, most=self._context_tokens)
        else:
            characters = sum(len(message["content"]) for message in ask.messages)
            encode = partial(self._text.encode_chat, ask.messages, ask.template, most=self._context_tokens)
        return await asyncio.to_thread(encode) if characters > _LONG_CHARACTERS else encode()

    def _check(self, ask: Ask, field: str, prompt: Prompt) -> None:
        """Refuse what the model or the context cannot take."""
        count, context = len(prompt.tokens), self._context_tokens
        asked = ask.max_tokens or 1
        if not prompt.whole or count + asked > context:
            counted = f"{count}" if prompt.whole else f"at least {count}"
            raise Refused(
                f"this model's context holds {context} tokens; asked are {counted} of the prompt and {asked} of the"
                " answer",
                parameter=field,
                code="context_length_exceeded",
            )
        if not count:
            raise Refused(f"`{field}` has no tokens", parameter=field)
        if min(prompt.tokens) < 0 or max(prompt.tokens) >= self._vocab_size:
            unknown = next(token for token in prompt.tokens if not 0 <= token < self._vocab_size)
            raise Refused(
                f"token {unknown} is not in this model's vocabulary, which has {self._vocab_size} tokens",
                parameter=field,
            )


class _Writing:
    """The pieces of one answer: its tokens as they come, their text when it is sure."""

    def __init__(self, request: Request, text: Text | None, stops: Sequence[str]) -> None:
        self._request = request
        self._detokeniser = None if text is None else text.detokeniser(request.prompt)
        self._stops = StopTexts(stops)
        self._count = 0

    def add(self, delta: Delta) -> Piece:
        """What a delta adds; with a finish where it ends the answer, or a stop text does."""
        if self._count and delta.finish is None and not self._stops:
            self._count += len(delta.tokens)
            return Piece(
                text="".join(map(self._step, delta.tokens)),
                tokens=delta.tokens,
                scores=delta.scores,
                prompt_tokens=len(self._request.prompt),
            )
        parts, taken = [], 0
        for token in delta.tokens:
            parts.append(self._stops.add(self._step(token)))
            taken += 1
            if self._stops.met:
                break
        prompt = () if self._count else self._request.prompt
        self._count += taken
        if delta.finish is not None and not self._stops.met:
            parts.append(self._rest())
        finish = Finish.STOP if self._stops.met else delta.finish
        return Piece(
            text="".join(parts),
            tokens=delta.tokens[:taken],
            prompt=prompt,
            scores=delta.scores[:taken],
            finish=finish,
            prompt_tokens=len(self._request.prompt),
            completion_tokens=self._count if finish else 0,
        )

    def _rest(self) -> str:
        """What is still held, now that no more tokens come."""
        text = self._stops.add("" if self._detokeniser is None else self._detokeniser.flush())
        return text + self._stops.flush()

    def _step(self, token: int) -> str:
        """The token's text, which the one that ends the answer has not."""
        if self._detokeniser is None or token in self._request.end_tokens:
            return ""
        return self._detokeniser.step(token)
