"""Text: what a model's tokens mean: its tokenizer, its chat template, and the tokens that end an answer."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from calibration.errors import ModelError
from selector.model.files.weights import read_object
from selector.serve.language.detokeniser import Detokeniser
from selector.serve.language.template import ChatTemplate, read_template
from selector.serve.language.vocabulary import Vocabulary
from selector.serve.upstream import Refused

_TOKENIZER: Final = "tokenizer.json"
_MEND: Final = "fetch it again from where the model was published"
_CHARACTERS_A_TOKEN: Final = 16
"""Text of so many characters for each token that a context holds is longer than it in any language: English has 4 to 5
a token. Only runs of one character have more, and they are encoded whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt in tokens."""

    tokens: tuple[int, ...]
    whole: bool = True
    """False: these are those of a part of it, which are too many already."""


class Text:
    """How a model's text becomes tokens, and its tokens text. May be used from several threads.

    Args:
        end_tokens: those that end an answer.
        template: None where the model has none; chats are refused then.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        end_tokens: frozenset[int] = frozenset(),
        template: ChatTemplate | None = None,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._template = tokenizer, template
        self.end_tokens = end_tokens
        self.vocabulary = Vocabulary(tokenizer)

    @property
    def takes_chats(self) -> bool:
        return self._template is not None

    def encode(self, text: str, *, most: int) -> Prompt:
        """The tokens of a prompt, with those that tokenizer.json puts before it.

        As in transformers, `add_bos_token` of tokenizer_config.json changes nothing where there is a tokenizer.json.

        Args:
            most: a text that has more tokens is not encoded to its end where that takes long.
        """
        return self._encode(text, most, with_special=True)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], names: Mapping[str, Any] | None, *, most: int
    ) -> Prompt:
        """The tokens of a chat, up to where the answer begins; see encode.

        Raises:
            Refused: the model has no chat template, or it does not take these messages.
        """
        if self._template is None:
            raise Refused(
                "this model has no chat template; ask /v1/completions with a `prompt`",
                parameter="messages",
                code="no_chat_template",
            )
        return self._encode(self._template.render(messages, names), most, with_special=False)

    def detokeniser(self, prompt: Sequence[int]) -> Detokeniser:
        """The text of an answer to this prompt, as its tokens come."""
        return Detokeniser(self._tokenizer, prompt)

    def _encode(self, text: str, most: int, *, with_special: bool) -> Prompt:
        part = text[: (most + 1) * _CHARACTERS_A_TOKEN]
        if len(part) < len(text):
            [encoding] = self._tokenizer.encode_batch([part], add_special_tokens=with_special)
            # At the cut the tokens are others than in the whole text.
            sure = sum(end <= len(part) - self._longest for _, end in encoding.offsets)
            if sure > most:
                return Prompt(tokens=tuple(encoding.ids[:sure]), whole=False)
        return Prompt(tokens=self._ids(text, with_special=with_special))

    @cached_property
    def _longest(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self._tokenizer.get_vocab()))

    def _ids(self, text: str, *, with_special: bool) -> tuple[int, ...]:
        # A batch is encoded without Python's lock, so that other answers go on meanwhile; `encode` keeps it.
        [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=with_special)
        return tuple(encoding.ids)


def read_text(folder: Path) -> Text | None:
    """The text side of a checkpoint; None where there is no tokenizer.json: then it takes token ids only.

    Raises:
        ModelError: one of its files cannot be read.
    """
    path = folder / _TOKENIZER
    if not path.is_file():
        return None
    # One text at a time gains nothing by threads of its own, and the cores are the engine's.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises Exception itself
        raise ModelError(
            f"{path} is not a tokenizer: {error}", "fetch it again from where the model was published"
        ) from None
    config = {**_object(folder / "special_tokens_map.json"), **_object(folder / "tokenizer_config.json")}
    special = _special_tokens(config)
    return Text(
        tokenizer,
        end_tokens=_end_tokens(folder, tokenizer, special),
        template=read_template(folder, config, special),
    )


def _object(path: Path) -> Mapping[str, Any]:
    return read_object(path)[0] if path.is_file() else {}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """bos_token, eos_token and their like, which stand as texts or as objects."""
    contents = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in config.items()
        if name.endswith("_token") and not name.startswith("add_")
    }
    return {name: content for name, content in contents.items() if isinstance(content, str)}


def _end_tokens(folder: Path, tokenizer: Tokenizer, special: Mapping[str, str]) -> frozenset[int]:
    """Those of generation_config.json, else of config.json; and the tokenizer's own, which ends a turn of a chat."""
    config = _object(folder / "config.json")
    inner = config.get("text_config")
    declared = [
        _object(folder / "generation_config.json").get("eos_token_id"),
        config.get("eos_token_id"),
        inner.get("eos_token_id") if isinstance(inner, dict) else None,
    ]
    first = next((value for value in declared if value is not None), None)
    ids = [first] if isinstance(first, int) else first if isinstance(first, list) else []
    own = tokenizer.token_to_id(special.get("eos_token", ""))
    return frozenset(token for token in [*ids, own] if type(token) is int)
