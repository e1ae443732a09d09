"""llama-server as the server of the front: the real one, in a process of its own, on small models."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Deployment, Engine
from calibration.backends.llamacpp import own_server
from calibration.backends.llamacpp.adapter import LlamaCppBackend
from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.engine.server import ServerPlace
from calibration.engine.streams import Finish
from calibration.supervision.readings import group_runs
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Ask, Piece, Refused, Unavailable
from tests.engines import tiny_models
from tests.engines.printed_commands import deployed
from tests.engines.tiny_configs import CONFIGS, VOCAB
from tests.engines.tiny_models import NEW_TOKENS, asked_prompts

BACKEND = LlamaCppBackend()
PLACE = ServerPlace(port=0, slots=2, context_tokens=500, threads=1)
HI = ({"role": "user", "content": "hi"},)
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
Reference = Callable[..., Engine]


def converted(folder: Path) -> Path:
    """The folder with the float32 .gguf file of a checkpoint."""
    tiny_models.load(BACKEND, "f32", folder).close()
    return folder.parent / f"{folder.name}-llamacpp-f32"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a .gguf file of a model that takes milliseconds a token, so that answers last."""
    import json

    root = tmp_path_factory.mktemp("slow")
    config = {
        **CONFIGS["llama"],
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "max_position_embeddings": 4096,
    }
    (root / "config").mkdir()
    (root / "config" / "config.json").write_text(json.dumps(config))
    write_random_checkpoint(root / "config", root / "slow")
    return converted(root / "slow")


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
    await asyncio.wait_for(serving.ended.wait(), 5)
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


def test_closing_an_answer_frees_its_slot(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        async with aclosing(serving.answer(Ask(prompt=(5, 6, 7), ignore_end=True))) as answer:
            await anext(answer)
            assert await busy_slots(serving) == [True]
        began = time.monotonic()
        assert (await pieces(serving, prompt=(5, 6, 7), max_tokens=2, ignore_end=True))[-1].completion_tokens == 2
        assert time.monotonic() - began < 2, "4000 tokens take much longer"
        assert await busy_slots(serving) == [False]

    run(scenario, slow, tmp_path, slots=1, context_tokens=4000)


def test_a_request_that_waits_for_a_slot_can_be_cancelled(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        async with aclosing(serving.answer(Ask(prompt=(5, 6, 7), max_tokens=150, ignore_end=True))) as answer:
            await anext(answer)
            waiting = [asyncio.create_task(pieces(serving, prompt=(5,), max_tokens=3000)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert [piece async for piece in answer][-1].completion_tokens == 150
        began = time.monotonic()
        await pieces(serving, prompt=(5, 6, 7), max_tokens=2)
        assert time.monotonic() - began < 2

    run(scenario, slow, tmp_path, slots=1, context_tokens=4000)


def test_a_killed_server_is_told_and_can_be_started_again(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        answer = asyncio.create_task(pieces(serving, prompt=(5, 6, 7), ignore_end=True))
        await asyncio.sleep(0.3)
        os.kill(serving.pid, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="^llamacpp ended while it answered: "):
            await answer
        assert time.monotonic() - began < 1
        assert await ended(serving) == "it was killed by SIGKILL"
        await serving.stop(0.0)
        await serving.start()
        assert (await pieces(serving, prompt=(5,), max_tokens=3, ignore_end=True))[-1].completion_tokens == 3

    run(scenario, slow, tmp_path, context_tokens=1000)


def test_it_stops_when_the_running_request_has_ended(slow: Path, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        answer = asyncio.create_task(pieces(serving, prompt=(5, 6, 7), max_tokens=100, ignore_end=True))
        await asyncio.sleep(0.2)
        await serving.stop(60.0)
        assert (await answer)[-1].completion_tokens == 100
        assert await ended(serving) == "it ended with exit code 0"

    run(scenario, slow, tmp_path)


def test_an_idle_one_stops_at_once(tiny: Folder, tmp_path: Path) -> None:
    async def scenario(serving: OwnServerUpstream) -> None:
        began = time.monotonic()
        await serving.stop(60.0)
        assert time.monotonic() - began < 3
        assert await ended(serving) == "it ended with exit code 0"

    run(scenario, converted(tiny("llama")), tmp_path)


def test_what_is_no_model_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(Unavailable, match=r"(?s)^it ended with exit code 1\n.*model\.gguf"):
        asyncio.run(upstream(tmp_path, tmp_path).start())


def test_nothing_is_left_of_it_when_we_are_killed(slow: Path, tmp_path: Path) -> None:
    program = (
        "import asyncio, os, pathlib, sys\n"
        "from tests.engines.serve.test_llama_server import pieces, upstream\n"
        "async def main():\n"
        "    serving = upstream(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "    await serving.start()\n"
        "    answer = asyncio.create_task(pieces(serving, prompt=(5, 6, 7), ignore_end=True))\n"
        "    print(os.getpgid(serving.pid), flush=True)\n"
        "    await answer\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(slow), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as starter:
        assert starter.stdout is not None
        group = int(starter.stdout.readline())
        assert group_runs(group)
        starter.kill()
        starter.wait()
        _wait_until(lambda: not group_runs(group), 5)


def test_by_itself_it_ends_with_the_process_that_started_it(tiny: Folder, tmp_path: Path) -> None:
    """Without our watchdog, too: whoever starts it by hand leaves nothing behind."""
    file = converted(tiny("llama")) / "model.gguf"
    program = (
        "import subprocess, sys, time\n"
        "server = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, text=True)\n"
        "print(server.pid, server.stdout.readline(), flush=True)\n"
        "time.sleep(3600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, own_server.__file__, str(file), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        pid, said = starter.stdout.readline().split(maxsplit=1)
        assert said.startswith("llama-server listens on http://127.0.0.1:")
        starter.kill()
        starter.wait()
        _wait_until(lambda: not _runs(int(pid)), 5)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def _wait_until(happened: Callable[[], bool], within_s: float) -> None:
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)
