"""llama-server as the server of the front: what the real one answers, on small models."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Engine
from calibration.backends.llamacpp import own_server
from calibration.engine.streams import Finish
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Refused
from tests.engines.serve.llama_upstream import (
    PLACE,
    asked_directly,
    converted,
    pieces,
    run,
    text,
)
from tests.engines.tiny_models import NEW_TOKENS, asked_prompts

HI = ({"role": "user", "content": "hi"},)
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
Reference = Callable[..., Engine]


def test_greedy_tokens_of_token_ids_are_the_references(tiny: Folder, reference: Reference, tmp_path: Path) -> None:
    prompts = asked_prompts()
    expected = reference("llama").generate(prompts, NEW_TOKENS).tokens

    async def scenario(serving: OwnServerUpstream) -> None:
        answers = await asyncio.gather(
            *[pieces(serving, prompt=tuple(prompt), max_tokens=NEW_TOKENS, ignore_end=True) for prompt in prompts]
        )
        greedy = {"temperature": 0, "top_k": 1, "samplers": ["top_k"], "n_predict": NEW_TOKENS, "ignore_eos": True}
        for prompt, path, answer in zip(prompts, expected, answers, strict=True):
            assert (answer[-1].finish, answer[-1].prompt_tokens, answer[-1].completion_tokens) == (
                Finish.LENGTH,
                len(prompt),
                NEW_TOKENS,
            )
            whole = await asked_directly(serving, "/completion", {**greedy, "prompt": prompt, "return_tokens": True})
            assert (whole["tokens"], whole["content"]) == (list(path), text(answer))
            assert len(answer) > 2, "it streams"

    run(scenario, converted(tiny("llama")), tmp_path)


def test_the_token_that_ends_sequences(tiny: Folder, reference: Reference, tmp_path: Path) -> None:
    prompt = tuple(asked_prompts()[1])
    [path] = reference("llama-eos").generate([prompt], NEW_TOKENS).tokens
    assert path.index(45) == 3

    async def scenario(serving: OwnServerUpstream) -> None:
        ends = (await pieces(serving, prompt=prompt, max_tokens=NEW_TOKENS))[-1]
        assert (ends.finish, ends.completion_tokens) == (Finish.STOP, 4)
        goes_on = (await pieces(serving, prompt=prompt, max_tokens=NEW_TOKENS, ignore_end=True))[-1]
        assert (goes_on.finish, goes_on.completion_tokens) == (Finish.LENGTH, NEW_TOKENS)

    run(scenario, converted(tiny("llama-eos")), tmp_path)


def test_text_and_chats_by_its_own_tokenizer_and_template(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        answer = await pieces(serving, prompt="once upon a time", max_tokens=NEW_TOKENS, ignore_end=True)
        tokens = (await asked_directly(serving, "/tokenize", {"content": "once upon a time", "add_special": True}))[
            "tokens"
        ]
        assert (answer[-1].prompt_tokens, answer[-1].completion_tokens) == (len(tokens), NEW_TOKENS)
        by_ids = await pieces(serving, prompt=tuple(tokens), max_tokens=NEW_TOKENS, ignore_end=True)
        assert text(by_ids) == text(answer) != ""
        chat = await pieces(serving, messages=HI, max_tokens=NEW_TOKENS, ignore_end=True)
        shown = (await asked_directly(serving, "/apply-template", {"messages": list(HI)}))["prompt"]
        tokens = (
            await asked_directly(serving, "/tokenize", {"content": shown, "add_special": True, "parse_special": True})
        )["tokens"]
        assert (chat[-1].prompt_tokens, chat[-1].completion_tokens) == (len(tokens), NEW_TOKENS)
        assert text(chat) == text(await pieces(serving, prompt=tuple(tokens), max_tokens=NEW_TOKENS, ignore_end=True))

    run(scenario, converted(tiny("llama")), tmp_path)


def test_an_answer_without_a_limit_ends_with_the_context(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        by_ids = (await pieces(serving, prompt=(5, 6, 7), ignore_end=True))[-1]
        assert (by_ids.finish, by_ids.completion_tokens) == (Finish.LENGTH, PLACE.context_tokens - 3)
        by_text = (await pieces(serving, prompt="once", ignore_end=True))[-1]
        assert by_text.finish is Finish.LENGTH
        assert by_text.prompt_tokens + by_text.completion_tokens >= PLACE.context_tokens

    run(scenario, converted(tiny("llama")), tmp_path)


def test_drawing(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        async def drawn(**ask: Any) -> str:
            return text(await pieces(serving, prompt=(5, 6, 7), max_tokens=24, ignore_end=True, **ask))

        assert await drawn(temperature=1.0, seed=7) == await drawn(temperature=1.0, seed=7)
        assert await drawn(temperature=1.0, seed=7) != await drawn(temperature=1.0, seed=8)
        assert len({await drawn(temperature=1.0) for _ in range(4)}) > 1
        assert await drawn(temperature=2.0, top_p=1e-6) == await drawn()

    run(scenario, converted(tiny("llama")), tmp_path)


def test_a_stop_text_ends_the_answer_and_is_not_told(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        whole = text(await pieces(serving, prompt=(5, 6, 7), max_tokens=64, ignore_end=True))
        stop = next(letter for letter in whole[8:] if letter.isascii())
        answer = await pieces(serving, prompt=(5, 6, 7), max_tokens=64, ignore_end=True, stop=(stop,))
        assert (text(answer), answer[-1].finish) == (whole[: whole.index(stop)], Finish.STOP)

    run(scenario, converted(tiny("llama")), tmp_path)


def test_more_text_than_the_context_holds_is_refused_with_both_numbers(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        for ask in ({"prompt": "once upon a time " * 400}, {"messages": ({"role": "user", "content": "hi " * 2000},)}):
            with pytest.raises(
                Refused, match=r"^request \(\d{3,} tokens\) exceeds the available context size \(512 tokens\)"
            ) as raised:
                await pieces(serving, **ask, max_tokens=4)
            assert (raised.value.status, raised.value.code) == (400, "context_length_exceeded")
        assert len(await pieces(serving, prompt=(5,), max_tokens=4)) > 1

    run(scenario, converted(tiny("llama")), tmp_path)


def test_it_holds_what_it_was_told(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        slots = await asked_directly(serving, "/slots")
        assert [slot["n_ctx"] for slot in slots] == [own_server.slot_tokens(300)] * 3
        assert serving._run is not None
        client = serving._run.client
        unknown = await client.get("/slots", headers={"Authorization": "Bearer wrong"})
        assert unknown.status_code == 401
        command_line = Path(f"/proc/{serving.pid}/cmdline").read_text()
        assert client.headers["Authorization"].removeprefix("Bearer ") not in command_line

    run(scenario, converted(tiny("llama")), tmp_path, slots=3, context_tokens=300)


def test_many_more_requests_than_slots(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        lengths = [1 + number % 13 for number in range(64)]
        answers = await asyncio.gather(
            *[
                pieces(serving, prompt=(5, 6, 7 + number), max_tokens=length, ignore_end=True)
                for number, length in enumerate(lengths)
            ]
        )
        assert [answer[-1].completion_tokens for answer in answers] == lengths

    run(scenario, converted(tiny("llama")), tmp_path)
