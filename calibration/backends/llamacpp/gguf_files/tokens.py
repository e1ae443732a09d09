"""Vocabularies of checkpoints that llama.cpp's converter does not know, or that have none."""

import contextlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "tokenizer_config.json")
"""Files of which a checkpoint that has a tokenizer has one."""


def know_more_tokenizers(base: Any) -> None:
    """Has the converter (its module conversion.base) take tokenizers that it knows no hash of."""
    by_hash = base.TextModel.get_vocab_base_pre
    own_vocabulary = base.TextModel.get_vocab_base

    def pre(self: Any, tokenizer: Any) -> Any:
        try:
            return by_hash(self, tokenizer)
        except NotImplementedError:
            # So the converter says that it does not know the hash: a tokenizer made in code, or a fine-tuned one's.
            return pre_tokenizer(self.dir_model)

    def vocabulary(self: Any) -> Any:
        try:
            return own_vocabulary(self)
        except AssertionError as error:
            # transformers takes the class that model_type names, which adds its family's own tokens.
            if (self.dir_model / "tokenizer.json").exists():
                with contextlib.suppress(AssertionError), _tokenizer_as_it_is():
                    return own_vocabulary(self)
            raise ValueError(_too_many_tokens(self.dir_model, self.hparams["vocab_size"])) from error

    base.TextModel.get_vocab_base_pre = pre
    base.TextModel.get_vocab_base = vocabulary


def name_missing_tokens(model_class: Any) -> None:
    """Has a class of the converter write a vocabulary also where the checkpoint has not the one of its family."""
    own_set_vocab = model_class.set_vocab

    def set_vocab(self: Any) -> None:
        if not any((self.dir_model / file).exists() for file in _TOKENIZERS):
            _name_tokens(self)
            return
        try:
            own_set_vocab(self)
        except (AssertionError, AttributeError, FileNotFoundError, KeyError, TypeError, ValueError):
            # No tokenizer.model, none of the special tokens that the family has, or not its own tokenizer class.
            if (self.dir_model / "tokenizer.model").exists():
                raise
            self._set_vocab_gpt2()
            # llama.cpp looks for Phi-3's own tokens in whatever has that name.
            self.gguf_writer.kv_data[0].pop("general.name", None)

    model_class.set_vocab = set_vocab


def pre_tokenizer(folder: Path) -> str:
    """llama.cpp's name for the way in which a tokenizer.json splits text.

    Raises:
        ValueError: none of those that are known.
    """
    letters = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    known = {letters + rest: "qwen2", letters + "{1,3}" + rest: "llama-bpe"}
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    plain = (tokenizer.get("normalizer") or {"type": "NFC"}).get("type") == "NFC"
    split = tokenizer.get("pre_tokenizer") or {}
    parts = split.get("pretokenizers", [split])
    kinds = [part.get("type") for part in parts]
    spaced = parts[-1].get("add_prefix_space")
    if plain and kinds == ["ByteLevel"] and parts[0].get("use_regex", True) and not spaced:
        return "gpt-2"
    if plain and kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True) and not spaced:
        name = known.get(parts[0].get("pattern", {}).get("Regex"))
        if name:
            return name
    raise ValueError(f"needs a pre-tokenizer that llama.cpp has a name for; found {' and '.join(map(str, kinds))}")


@contextlib.contextmanager
def _tokenizer_as_it_is() -> Iterator[None]:
    """Lets the converter read the tokens of tokenizer.json and tokenizer_config.json alone."""
    import transformers

    automatic: Any = transformers.AutoTokenizer
    usual = automatic.from_pretrained
    plain: Any = transformers.PreTrainedTokenizerFast.from_pretrained

    def read(folder: Any, **_: Any) -> Any:
        return plain(folder)

    automatic.from_pretrained = staticmethod(read)
    try:
        yield
    finally:
        automatic.from_pretrained = usual


def _name_tokens(model: Any) -> None:
    """A vocabulary for a checkpoint without one, so that it can be asked by token ids."""
    gguf: Any = importlib.import_module("gguf")
    writer, count = model.gguf_writer, model.hparams["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{number}>" for number in range(count)])
    writer.add_token_types([gguf.TokenType.NORMAL] * count)
    writer.add_token_merges(["< 0"])  # llama.cpp does not load one without
    gguf.SpecialVocab(model.dir_model, load_merges=False, n_vocab=count).add_to_gguf(writer)


def _too_many_tokens(folder: Path, vocab_size: int) -> str:
    """Why the converter stops at a tokenizer with ids beyond the embeddings: it says nothing but AssertionError."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    beyond = sorted(token for token, place in tokenizer.get_vocab().items() if place >= vocab_size)
    shown = ", ".join([*beyond[:4], *(["..."] if len(beyond) > 4 else [])])
    return (
        f"needs token ids below vocab_size ({vocab_size}); transformers reads the tokenizer of {folder} as"
        f" {type(tokenizer).__name__}, which has {len(beyond)} beyond: {shown}"
    )
