"""What single tokens are called, for log-probabilities: their text, and their bytes where they are half a character."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""How tokenizers of SentencePiece write a byte that no token of theirs has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token is, by itself."""

    text: str
    """With replacement characters where its bytes are not a text."""
    raw: bytes


class Vocabulary:
    """The tokens of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {token: added.content for token, added in tokenizer.get_added_tokens_decoder().items()}
        self._bytes_of = _byte_of_character() if _is_byte_level(tokenizer) else {}

    def token(self, token: int) -> Token:
        """A token by its id; one that the tokenizer does not know has no text."""
        if (content := self._added.get(token)) is not None:
            return Token(text=content, raw=content.encode())
        piece = self._tokenizer.id_to_token(token) or ""
        if self._bytes_of:
            raw = b"".join(self._bytes_of.get(character, character.encode()) for character in piece)
        elif byte := _BYTE.fullmatch(piece):
            raw = bytes([int(byte[1], 16)])
        else:
            raw = piece.replace("▁", " ").encode()
        return Token(text=raw.decode(errors="replace"), raw=raw)


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether its tokens are bytes that are written as characters (GPT-2 and its kin)."""
    if tokenizer.decoder is None:
        return False
    return "ByteLevel" in _types(json.loads(tokenizer.decoder.__getstate__()))


def _types(decoder: dict[str, object]) -> Iterator[object]:
    """The type of a decoder and of those that it is made of."""
    yield decoder.get("type")
    parts = decoder.get("decoders")
    for part in parts if isinstance(parts, list) else []:
        yield from _types(part)


def _byte_of_character() -> dict[str, bytes]:
    """GPT-2's `bytes_to_unicode`, turned round: printable bytes are themselves, the others follow from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): bytes([byte]) for byte in printable}
    return characters | {chr(256 + place): bytes([byte]) for place, byte in enumerate(others)}
