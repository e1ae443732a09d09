"""CTranslate2's converter, with a vocabulary that fits the model whatever its tokenizer has."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any


def convert(source: Path, destination: Path, *, quantization: str | None, trust_remote_code: bool) -> None:
    """Convert a checkpoint of transformers.

    Args:
        quantization: `int8`; None keeps the checkpoint's dtype.
    """
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]  # it has no types
        def _load(self) -> Any:
            return _completed(super()._load())

    converter = Converter(str(source), low_cpu_mem_usage=True, trust_remote_code=trust_remote_code)
    converter.convert(str(destination), quantization=quantization, force=True)


def names_for(words: Sequence[str], vocab_size: int) -> list[str]:
    """A name of its own for each token of a model: its tokenizer's word, where that is one.

    >>> names_for(["a", "b", "a"], 4)
    ['a', 'b', 'a_2', '<3>']
    >>> names_for(["a", "b", "c"], 2)
    ['a', 'b']
    """
    names = dict[str, None]()
    for token in range(vocab_size):
        word = words[token] if token < len(words) else f"<{token}>"
        others = (f"{word}_{number}" for number in count(token))
        names[word if word not in names else next(other for other in others if other not in names)] = None
    return list(names)


def _completed(spec: Any) -> Any:
    """A model whose tokenizer has as many words as the model has tokens, and words for begin, end and unknown.

    The engine is given ids by their names, and lengths are forced: which names they are makes no difference. But
    Qwen2's tokenizer brings a word that a model need not have, and without a word for the end nothing is loaded.
    """
    if not hasattr(spec, "register_vocabulary"):  # a model with an encoder
        return spec
    names = names_for(spec._vocabulary, spec.get_vocabulary_size())
    spec.register_vocabulary(names)
    for word in ("bos_token", "eos_token", "unk_token"):
        if getattr(spec.config, word, None) is None:
            setattr(spec.config, word, names[-1])
    return spec
