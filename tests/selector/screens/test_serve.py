"""The screen of `serve`: what it says of the choice, of several requests, and how to ask."""

import shlex
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from selector.planning.room import room_for
from selector.screens.serve import batching, chosen, example, ready
from tests.selector.answering import HOST, KEY, SDPA, answer
from tests.selector.launches import rounds


def test_what_is_served_and_why(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache:
        selection = answer(cache, *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0)), backend=SDPA)
        lines = chosen(selection, room_for(selection), threads=2)
    assert lines[0] == (
        "model   LlamaForCausalLM, 30 layers, 135 M parameters, bfloat16, not quantized (random weights)"
    )
    assert lines[1].startswith("serves  transformers:sdpa, as you asked, measured ")
    assert lines[1].endswith(" (3 launches, 1 candidate), for pp512:tg128:b1")
    assert lines[2:] == [
        "on      AMD EPYC 7763 (zen3), 2 cores, 2 threads",
        "room    4 requests, each up to 8,192 tokens with its answer",
        "memory  about 1.8 GiB of the 20.0 GiB that are free",
    ]


@pytest.mark.parametrize(
    ("word", "slots", "sentence"),
    [
        ("continuous", 4, "X answers 4 at once: a new one joins those that run; more wait"),
        ("turns", 2, "X answers 2 at once: they take turns, a step each; more wait"),
        (
            "static",
            8,
            "X answers 8 at once: they run as a batch, and who comes later waits for its end; more wait",
        ),
        ("none", 4, "X answers one after another: requests wait for each other"),
        ("continuous", 1, "X answers one after another: requests wait for each other"),
    ],
)
def test_how_requests_wait_for_each_other(word: str, slots: int, sentence: str) -> None:
    assert batching(word, "X", slots) == sentence


@pytest.mark.parametrize(
    ("text", "chats", "path", "asked"),
    [
        (True, True, "chat/completions", '"messages": [{"role": "user", "content": "Hello"}]'),
        (True, False, "completions", '"prompt": "Once upon a time"'),
        (False, False, "completions", '"prompt": [1, 2, 3], "return_token_ids": true'),
    ],
)
@pytest.mark.parametrize("keyed", [True, False])
def test_the_example_asks_as_the_model_can_be_asked(
    text: bool, chats: bool, path: str, asked: str, keyed: bool
) -> None:
    words = shlex.split(example("http://127.0.0.1:8000", "tiny", takes_text=text, takes_chats=chats, keyed=keyed))
    assert words[:2] == ["curl", f"http://127.0.0.1:8000/v1/{path}"]
    assert words[-1] == '{"model": "tiny", "max_tokens": 64, ' + asked + "}"
    assert ("Authorization: Bearer $AUTOBACKEND_API_KEY" in words) is keyed


def test_it_says_where_it_listens() -> None:
    told = {"url": "http://127.0.0.1:8000", "names": ["tiny"], "batching": "none", "slots": 4, "load_s": 1.234}
    lines = ready(told, "CTranslate2", takes_text=True, takes_chats=True, keyed=False)
    assert lines[:2] == [
        "requests  CTranslate2 answers one after another: requests wait for each other",
        "ready     loaded in 1.23 s: http://127.0.0.1:8000/v1, model tiny; Ctrl-C ends it",
    ]
