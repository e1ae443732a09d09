"""The upstream over a small server that misbehaves (odd_server.py): started, asked, ended."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from calibration.engine.server import OwnServer, ServerPlace
from calibration.supervision.readings import group_runs
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Ask, Piece

SCRIPT = Path(__file__).with_name("odd_server.py")

PLACE = ServerPlace(port=0, context_tokens=64, slots=2, threads=1)


def upstream(folder: Path, habit: str = "", *, count_path: str = "", **changes: Any) -> OwnServerUpstream:
    def describe(place: ServerPlace) -> OwnServer:
        return OwnServer(
            argv=(str(SCRIPT), str(place.port), habit),
            variables={"ODD_KEY": place.key},
            count_path=count_path,
            parameters=frozenset({"temperature", "top_p", "stop"}),
        )

    wanted: dict[str, Any] = {
        "name": "odd",
        "place": PLACE,
        "python": Path(sys.executable),
        "log": folder / "server.log",
        "vocab_size": 100,
    }
    return OwnServerUpstream(describe, **(wanted | changes))


@asynccontextmanager
async def started(folder: Path, habit: str = "", **changes: Any) -> AsyncIterator[OwnServerUpstream]:
    """A server that is killed at the end; nothing of its group is left then."""
    serving = upstream(folder, habit, **changes)
    await serving.start()
    group = os.getpgid(serving.pid)
    try:
        yield serving
    finally:
        await serving.stop(0.0)
        assert not group_runs(group)


async def pieces(serving: OwnServerUpstream, prompt: str | tuple[int, ...] = "well", **ask: Any) -> list[Piece]:
    async with aclosing(serving.answer(Ask(prompt=prompt, **ask))) as answer:
        return [piece async for piece in answer]


async def ended(serving: OwnServerUpstream) -> str:
    """How it ended, within 5 s."""
    await asyncio.wait_for(serving.ended.wait(), 5)
    return ending(serving)


def ending(serving: OwnServerUpstream) -> str:
    assert serving.ended.is_set()
    return serving.ending.splitlines()[0]


def ask_once(folder: Path, prompt: str | tuple[int, ...], **ask: Any) -> list[Piece]:
    async def scenario() -> list[Piece]:
        async with started(folder) as serving:
            return await pieces(serving, prompt, **ask)

    return asyncio.run(scenario())


def until(happened: Callable[[], bool], within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)
    return happened()
