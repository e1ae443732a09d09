"""From tokens to text while they come: no character is split, no stop text is told."""

from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_TAIL: Final = 6
"""Tokens of the prompt that the answer's first one is decoded after: whether it begins with a space depends on them."""
_MOST_HELD: Final = 32
"""Tokens without text after which it is told as it is: a character has four bytes at most, so that these are none.
Each step decodes all that are held, so that an answer without text would take a time quadratic in its length."""


class Detokeniser:
    """The text of one answer, as its tokens come.

    Args:
        prompt: its last tokens say how the answer's first one is written; none of their own text is told.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        tail = list(prompt[-_TAIL:])
        # After half a character the text would begin within it, and the stream would tell the prompt's text as well.
        self._told = [] if self._decode(tail).endswith("�") else tail
        self._held: list[int] = []
        self._stream = DecodeStream(ids=self._told, skip_special_tokens=True)

    def step(self, token: int) -> str:
        """The text that is sure now; empty while a character waits for its next token."""
        self._held.append(token)
        try:
            text = self._stream.step(self._tokenizer, token)
        except Exception as error:
            # https://github.com/vllm-project/vllm/issues/17448: invalid UTF-8 may change text that was decoded before.
            if "Invalid prefix" not in str(error):
                raise
            return self.flush()
        if text is None:
            return self.flush() if len(self._held) >= _MOST_HELD else ""
        self._told, self._held = self._held, []
        return text

    def flush(self) -> str:
        """The text of what is held, halves of characters as replacement characters."""
        before, whole = self._decode(self._told), self._decode(self._told + self._held)
        text = whole[len(before) :] if whole.startswith(before) else self._decode(self._held)
        self._told, self._held = self._held[-_TAIL:], []
        self._stream = DecodeStream(skip_special_tokens=True)
        return text

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)


class StopTexts:
    """Finds the texts that end an answer, and holds back what may be the beginning of one."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._held = ""
        self.met = False
        """Whether one of them came; what came before it was told, and nothing more is to be added."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._texts)

    def add(self, text: str) -> str:
        """What of the text so far is sure to be told, and was not yet."""
        if not self._texts:
            return text
        whole = self._held + text
        met = [(begin + len(stop), begin) for stop in self._texts if (begin := whole.find(stop)) >= 0]
        if met:
            # The one that was complete first, so that it does not matter in which pieces the text comes.
            _, begin = min(met)
            self.met, self._held = True, ""
            return whole[:begin]
        held = max(_overlap(whole, stop) for stop in self._texts)
        self._held = whole[len(whole) - held :]
        return whole[: len(whole) - held]

    def flush(self) -> str:
        """What was held back, now that no more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that is a beginning of `stop`, but not all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
