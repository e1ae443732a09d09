"""Prompts of random token ids, the same for the same seed on every machine."""

import random

LOWEST_TOKEN = 3
"""Prompts avoid lower ids: in most vocabularies they are padding, beginning and end of text."""


def prompts(seed: str, vocab_size: int, length: int, count: int) -> list[list[int]]:
    """`count` prompts of `length` random token ids, the same for the same seed on every machine."""
    draw = random.Random(seed)
    lowest = min(LOWEST_TOKEN, vocab_size - 1)
    return [[draw.randrange(lowest, vocab_size) for _ in range(length)] for _ in range(count)]
