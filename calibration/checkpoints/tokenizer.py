"""Writes a byte-level BPE tokenizer for a vocabulary of any size: a model with random weights has none of its own."""

from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

from calibration.checkpoints.json_file import write_json

_GPT2 = ""
"""Empty: ByteLevel splits by its own expression."""
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _LETTERS + r"|\p{N}{1,3}" + _REST
"""meta-llama/Meta-Llama-3-8B tokenizer.json"""
_QWEN2 = _LETTERS + r"|\p{N}" + _REST
"""transformers 5.23.0 models/qwen2/tokenization_qwen2.py"""


def write_tokenizer(
    destination: Path, *, vocab_size: int, special: dict[str, Any], pattern: str = _GPT2, max_tokens: int = 1 << 20
) -> None:
    """Write a byte-level BPE tokenizer of exactly `vocab_size` tokens, no two with the same string.

    Args:
        special: role (`bos`, `eos`, `pad`): its id, a list of ids of which the first has the role, or None.
        pattern: see pattern_of.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    names = _special_tokens(special, vocab_size)
    words, merges = _vocabulary(vocab_size, names)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"), byte_level])
        if pattern
        else byte_level
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names.values()])
    destination.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(destination / "tokenizer.json"))

    roles = {f"{role}_token": names[_first(value)] for role, value in special.items() if _first(value) in names}
    # For a role without a token transformers adds the default of the model's family, one token more than the model has.
    # No text of bytes has an "unknown" token, but engines ask for its name.
    for role in ("unk_token", "pad_token"):
        roles.setdefault(role, roles.get("eos_token") or next(iter(roles.values()), words[0]))
    write_json(destination / "special_tokens_map.json", roles)
    write_json(
        destination / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_tokens,
            "clean_up_tokenization_spaces": False,
            "added_tokens_decoder": {
                str(i): {
                    "content": name,
                    "special": True,
                    "normalized": False,
                    "lstrip": False,
                    "rstrip": False,
                    "single_word": False,
                }
                for i, name in names.items()
            },
            **roles,
        },
    )


def pattern_of(model_type: str, vocab_size: int) -> str:
    """The expression by which a model family's tokenizers split text before the merges; empty: GPT-2's."""
    if model_type.startswith("qwen"):
        return _QWEN2
    if model_type.startswith("llama") and vocab_size >= 128_000:
        return _LLAMA3
    return _GPT2


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _special_tokens(special: dict[str, Any], vocab_size: int) -> dict[int, str]:
    """Id: name, for every special id that is inside the vocabulary."""
    names: dict[int, str] = {}
    for role, value in special.items():
        for number, i in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(i, int) and 0 <= i < vocab_size:
                names.setdefault(i, f"<|{role}|>" if number == 0 else f"<|{role}_{number}|>")
    return names


def _vocabulary(vocab_size: int, names: dict[int, str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens in the order of their ids, and the merges that make those longer than one byte."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda c: (not c.isascii() or not c.islower(), c))
    strings: Iterator[tuple[str, ...]] = (s for length in count(1) for s in product(letters, repeat=length))
    words, merges = [], []
    for i in range(vocab_size):
        if i in names:
            words.append(names[i])
            continue
        string = next(strings)
        words.append("".join(string))
        if len(string) > 1:
            # Shorter strings come first, so the token without its last letter is there already.
            merges.append(("".join(string[:-1]), string[-1]))
    return words, merges
