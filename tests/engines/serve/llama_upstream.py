"""llama-server as an upstream of the front, on a small converted model; and what is asked of it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from calibration.backend import Deployment
from calibration.backends.llamacpp.adapter import LlamaCppBackend
from calibration.engine.server import ServerPlace
from calibration.supervision.readings import group_runs
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Ask, Piece
from tests.engines import tiny_models
from tests.engines.printed_commands import deployed
from tests.engines.tiny_configs import VOCAB

BACKEND = LlamaCppBackend()
PLACE = ServerPlace(port=0, slots=2, context_tokens=500, threads=1)


def converted(folder: Path) -> Path:
    """The folder with the float32 .gguf file of a checkpoint."""
    tiny_models.load(BACKEND, "f32", folder).close()
    return folder.parent / f"{folder.name}-llamacpp-f32"


def upstream(artifact: Path, folder: Path, place: ServerPlace = PLACE) -> OwnServerUpstream:
    deployment: Deployment = replace(deployed("/somewhere"), artifact_dir=str(artifact))
    return OwnServerUpstream(
        partial(BACKEND.own_server, BACKEND.variant("f32"), deployment),
        name="llamacpp",
        place=place,
        python=Path(sys.executable),
        log=folder / "server.log",
        vocab_size=VOCAB,
    )


@asynccontextmanager
async def started(artifact: Path, folder: Path, place: ServerPlace = PLACE) -> AsyncIterator[OwnServerUpstream]:
    serving = upstream(artifact, folder, place)
    await serving.start()
    group = os.getpgid(serving.pid)
    try:
        yield serving
    finally:
        await serving.stop(0.0)
        assert not group_runs(group)


def run(scenario: Callable[[OwnServerUpstream], Any], artifact: Path, folder: Path, **changes: Any) -> None:
    async def whole() -> None:
        async with started(artifact, folder, replace(PLACE, **changes)) as serving:
            await scenario(serving)

    asyncio.run(whole())


async def pieces(serving: OwnServerUpstream, **ask: Any) -> list[Piece]:
    async with aclosing(serving.answer(Ask(**ask))) as answer:
        return [piece async for piece in answer]


async def ended(serving: OwnServerUpstream) -> str:
    await asyncio.wait_for(serving.ended.wait(), 60)
    return serving.ending.splitlines()[0]


def text(answer: list[Piece]) -> str:
    return "".join(piece.text for piece in answer)


async def asked_directly(serving: OwnServerUpstream, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the server itself says."""
    assert serving._run is not None
    client = serving._run.client
    answer = await (client.get(path) if body is None else client.post(path, json=body))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def busy_slots(serving: OwnServerUpstream) -> list[bool]:
    return [slot["is_processing"] for slot in await asked_directly(serving, "/slots")]
