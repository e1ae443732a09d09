"""LMDeploy's real api_server, on its PyTorch engine with CPU stand-ins, as the server of the front."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.pytorch import PyTorch
from calibration.engine.server import ServerPlace
from calibration.engine.streams import Finish
from calibration.supervision.readings import group_runs
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Ask, Piece, Refused, Unavailable
from tests.lmdeploy import tiny_checkpoints
from tests.lmdeploy.conftest import Checkpoints, Pythons
from tests.lmdeploy.jobs import deployed

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

PLACE = ServerPlace(port=0, slots=4, context_tokens=256)
LOAD_S = 300.0


@asynccontextmanager
async def started(model: Path, python: Path, folder: Path) -> AsyncIterator[OwnServerUpstream]:
    backend = PyTorch()
    deployment = deployed(str(model), tensor_parallel=1, trust_remote_code=False)
    serving = OwnServerUpstream(
        partial(backend.own_server, backend.variant("eager"), deployment),
        name="pytorch",
        place=PLACE,
        python=python,
        log=folder / "server.log",
        vocab_size=tiny_checkpoints.VOCAB,
        load_s=LOAD_S,
    )
    await start(serving)
    group = os.getpgid(serving.pid)
    try:
        yield serving
    finally:
        await serving.stop(0.0)
        assert not group_runs(group)


async def start(serving: OwnServerUpstream) -> None:
    """As often as a keeper does.

    On a busy machine LMDeploy's server closes the manager through which its engine process has just told that it is
    ready, before that has let go of it; the process then ends with EOFError (mp_engine/zmq_engine.py:132).
    """
    for _ in range(2):
        try:
            return await serving.start()
        except Unavailable as error:
            if "PyTorch ZMQ engine process is not alive" not in error.message:
                raise
    return await serving.start()


async def pieces(serving: OwnServerUpstream, **ask: Any) -> list[Piece]:
    async with aclosing(serving.answer(Ask(**ask))) as answer:
        return [piece async for piece in answer]


def text(answer: list[Piece]) -> str:
    return "".join(piece.text for piece in answer)


def tokens(answer: list[Piece]) -> list[int]:
    return [token for piece in answer for token in piece.tokens]


def test_it_answers(checkpoint: Checkpoints, lmdeploy_python: Pythons, tmp_path: Path) -> None:
    folder = checkpoint("qwen2", dtype="float16")
    hi = ({"role": "user", "content": "hi"},)

    async def scenario() -> None:
        async with started(folder, lmdeploy_python("torch"), tmp_path) as serving:
            by_ids = await pieces(serving, prompt=(5, 6, 7), max_tokens=8, ignore_end=True)
            assert by_ids[-1] == Piece(finish=Finish.LENGTH, prompt_tokens=3, completion_tokens=8)
            assert len(tokens(by_ids)) == 8 and len(by_ids) > 2
            again = await pieces(serving, prompt=(5, 6, 7), max_tokens=8, ignore_end=True)
            assert tokens(again) == tokens(by_ids)
            by_text = await pieces(serving, prompt="once upon a time", max_tokens=6, ignore_end=True)
            assert (by_text[-1].finish, by_text[-1].completion_tokens) == (Finish.LENGTH, 6)
            assert by_text[-1].prompt_tokens >= 4 and text(by_text)
            chat = await pieces(serving, messages=hi, max_tokens=6, ignore_end=True)
            assert (chat[-1].finish, chat[-1].completion_tokens, len(tokens(chat))) == (Finish.LENGTH, 6, 6)
            drawn = await pieces(serving, prompt=(5, 6, 7), max_tokens=8, ignore_end=True, temperature=1.0)
            assert drawn[-1].completion_tokens == 8
            many = await asyncio.gather(
                *[pieces(serving, prompt=(5, 6, 7), max_tokens=1 + number, ignore_end=True) for number in range(12)]
            )
            assert [answer[-1].completion_tokens for answer in many] == [1 + number for number in range(12)]
            with pytest.raises(Refused, match=r"Input length \(\d+\) must be smaller than .* \(320\)") as refusal:
                await pieces(serving, prompt="once upon a time " * 400, max_tokens=4)
            assert refusal.value.code == "context_length_exceeded"
            async with aclosing(serving.answer(Ask(prompt=(5, 6, 7), ignore_end=True))) as answer:
                await anext(answer)
            assert (await pieces(serving, prompt=(5,), max_tokens=2))[-1].completion_tokens <= 2
            assert serving.ready

    asyncio.run(scenario())
