"""Tokenizers of the two kinds that models have, small, made here: bytes as GPT-2 has them, and SentencePiece's."""

import json
import string
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

END, START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
HARD = "Grüße, 世界! 🙂👩‍👩‍👧 naïve\n"
"""Characters of two, three and four bytes, and one that is made of five of them."""
SENTENCES = [
    "The quick brown fox jumps over the lazy dog and the other dogs.",
    "What is the capital of France? The capital of France is Paris.",
    "Stop here, then stop there, and then stop.",
]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_level() -> Tokenizer:
    """Ids 0 to 2 are END, START and TURN_END."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=[END, START, TURN_END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def sentence_piece() -> Tokenizer:
    """As Llama 2's: spaces are ▁, unknown characters are bytes, and a prompt begins with <s>."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [*string.ascii_letters, *".,?!", "▁t", "he", "▁the", "in", "er"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("e", "r")]
    vocabulary = {piece: token for token, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def checkpoint(
    folder: Path,
    tokenizer: Tokenizer,
    *,
    tokenizer_config: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    generation_config: dict[str, Any] | None = None,
) -> Path:
    """A folder with the files that a text is read from."""
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"tokenizer_config": tokenizer_config, "config": config, "generation_config": generation_config}
    for name, content in named.items():
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
