"""What the tests of `autobackend serve` ask, by the openai client, and what the engine answers by itself."""

import threading
from pathlib import Path
from typing import Any

from calibration.registry import find
from tests.engines import tiny_models
from tests.engines.served import Served

FAST = ("--backend", "ctranslate2:float32")
"""Loads a small model in a moment."""
SLOW = ("--backend", "transformers:eager")
"""Takes long for an answer, so that something can happen meanwhile."""
PROMPT = [5, 6, 7, 8]
ENDLESS = 8_000
"""Tokens of an answer of `llama-long` that is not over before a test has done what it does meanwhile."""
LONG_S = 60.0
"""What has not happened by then never happens; what does takes a moment, and longer on a busy machine."""


def ids(server: Served, count: int, prompt: list[int] = PROMPT) -> list[int]:
    """Greedy tokens of a whole answer that nothing but its length ends."""
    answer = server.client().completions.create(
        model=server.model, prompt=prompt, max_tokens=count, temperature=0,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )  # fmt: skip
    assert answer.choices[0].finish_reason == "length"
    return list((answer.choices[0].model_extra or {})["token_ids"])


def streamed_ids(server: Served, count: int, seen: threading.Event | None = None) -> tuple[list[int], list[Any]]:
    """The same as a stream, and its chunks' reasons to end."""
    tokens, reasons = [], []
    for chunk in server.client().completions.create(
        model=server.model, prompt=PROMPT, max_tokens=count, temperature=0, stream=True,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    ):  # fmt: skip
        tokens += (chunk.choices[0].model_extra or {})["token_ids"]
        reasons.append(chunk.choices[0].finish_reason)
        if seen is not None:
            seen.set()
    return tokens, reasons


def text_of(server: Served) -> str:
    """Of a short greedy answer."""
    answer = server.client().completions.create(model=server.model, prompt=PROMPT, max_tokens=12, temperature=0)
    return answer.choices[0].text


def expected(folder: Path, count: int, label: str = "ctranslate2:float32") -> list[int]:
    """What the engine generates by itself."""
    backend, _, variant = label.partition(":")
    engine = tiny_models.load(find(backend), variant, folder)
    return list(engine.generate([PROMPT], count).tokens[0])
