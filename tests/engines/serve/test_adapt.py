"""`autobackend serve --adapt`: real engines change places under load, by evidence that is planted in a real cache."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import openai
import psutil
import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Silent
from calibration.registry import find
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.supervisor import Worker
from selector.evidence.identity import identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.planning.room import room_for
from selector.selection import choose
from selector.serve.adapt.relay import Kept, Relay
from selector.serve.assemble import Assembled, assemble
from selector.serve.keep.gate import Gate
from selector.serve.keep.keeper import Keeper
from selector.serve.prepare import prepare
from selector.serve.upstream import Ask
from tests.engines import tiny_models
from tests.engines.served import Served, runs, serving, until
from tests.selector.launches import served

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

QUICK, SLOW = "ctranslate2:float32", "transformers:eager"
"""The one loads in a moment and is converted first; the other one takes its time for both, and is not converted."""
BEGIN = "pp300:tg8:c2"
"""The load that the server is started for."""
PROMPT = list(range(5, 21))
SHORT, LONG = 8, 60
"""New tokens. What really comes has 16 prompt tokens, and three requests at once or fewer."""
CAME = [f"pp{len(PROMPT)}:tg{SHORT}:c{streams}" for streams in (1, 2, 3, 4)]
Folder = Callable[..., Path]


@pytest.fixture
def store(tiny: Folder, tmp_path: Path) -> ArtifactStore:
    """In which the model is converted."""
    made = ArtifactStore(tmp_path / "artifacts")
    assembled(tiny("llama"), QUICK, tmp_path, made)
    return made


def assembled(model: Path, label: str, folder: Path, store: ArtifactStore) -> Assembled:
    """A candidate that can be started."""
    with Cache.open(folder / "other.db") as cache:
        selection = choose(str(model), cache=cache, workload=CAME[0], backends=[label])
    room = room_for(selection, slots=4, context_tokens=512)
    prepared = prepare(selection, room, folder=folder, reporter=Silent(), store=store)
    return assemble(prepared, names=["tiny"], keys=(), log=folder / f"{label}.log")


def plant(cache: Path, model: Path, *, first: str, then: str) -> None:
    """Launches by which the one is the best for what the server is started for, the other for what comes."""
    host = HostSpec.detect()
    key = identity(ModelSpec.read(str(model)), host)

    def launches(label: str, begin_tps: float, came_tps: float) -> Iterator[object]:
        loads = {BEGIN: begin_tps, **dict.fromkeys(CAME, came_tps)}
        for number in (1, 2, 3):
            yield served(label, key, host, loads, round_=number, ttft_s=0.001, threads=1, slots=4, model=str(model))

    with Cache.open(cache) as opened:
        opened.add(*launches(first, 400.0, 100.0), *launches(then, 100.0, 400.0))  # type: ignore[arg-type]


class Asking:
    """Clients that ask until it is over: two for short answers, and one for long ones as a stream.

    Args:
        streams: False: all ask for whole answers.
    """

    def __init__(self, server: Served, *, streams: bool = True) -> None:
        self.answers: list[tuple[int, ...]] = []
        self.errors: list[Exception] = []
        self._over = threading.Event()
        self._server = server
        ways = (self._whole, self._whole, self._streamed if streams else self._whole)
        self._threads = [threading.Thread(target=self._go_on, args=(way, server.client())) for way in ways]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _go_on(self, ask: Callable[[openai.OpenAI], list[int]], client: openai.OpenAI) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(tuple(ask(client)))
            except openai.OpenAIError as error:
                self.errors.append(error)
                return

    def _whole(self, client: openai.OpenAI) -> list[int]:
        answer = client.completions.create(model=self._server.model, prompt=PROMPT, **_wanted(SHORT))
        return list((answer.choices[0].model_extra or {})["token_ids"])

    def _streamed(self, client: openai.OpenAI) -> list[int]:
        chunks = client.completions.create(model=self._server.model, prompt=PROMPT, stream=True, **_wanted(LONG))
        return [token for chunk in chunks for token in (chunk.choices[0].model_extra or {})["token_ids"]]


def _wanted(count: int) -> dict[str, Any]:
    return {"max_tokens": count, "temperature": 0, "extra_body": {"return_token_ids": True, "ignore_eos": True}}


@pytest.fixture(scope="module")
def right(tiny: Folder) -> set[tuple[int, ...]]:
    """What the engines generate by themselves; the two may differ, as rounding has it."""
    found = set()
    for label in (QUICK, SLOW):
        backend, _, variant = label.partition(":")
        engine = tiny_models.load(find(backend), variant, tiny("llama"))
        found |= {tuple(engine.generate([PROMPT], count).tokens[0]) for count in (SHORT, LONG)}
        engine.close()
    return found


@contextmanager
def adapting(model: Path, folder: Path, store: ArtifactStore) -> Iterator[Served]:
    words = ("--workload", BEGIN, "--context", 512, "--adapt", "--adapt-every", 1)
    with serving(model, *words, folder=folder, AUTOBACKEND_ARTIFACTS=str(store.root)) as server:
        yield server


def workers(server: Served) -> list[psutil.Process]:
    return workers_of(server.process.pid)


def workers_of(pid: int) -> list[psutil.Process]:
    """That a process has started; not what they have started themselves."""
    found = []
    for process in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if runs(process) and any(word.endswith("worker/main.py") for word in process.cmdline()):
                found.append(process)
    return found


def answers_now(server: Served) -> str:
    """The candidate that /metrics tells."""
    [line] = [line for line in server.get("/metrics")[1].splitlines() if line.startswith("autobackend_info{")]
    return line.partition('candidate="')[2].partition('"')[0]


def test_under_load_the_better_engine_takes_over_and_nothing_is_lost(
    tiny: Folder, store: ArtifactStore, right: set[tuple[int, ...]], tmp_path: Path
) -> None:
    model = tiny("llama")
    plant(tmp_path / "cache.db", model, first=SLOW, then=QUICK)
    with adapting(model, tmp_path, store) as server:
        assert (server.answer["candidate"], answers_now(server)) == (SLOW, SLOW)
        [old] = workers(server)
        models = server.client().models.list().data
        with Asking(server) as asking:
            until(lambda: server.metric("engine_switches_total") == 1 or asking.errors, 180)
            until(lambda: not runs(old) or asking.errors, 60)
            before = len(asking.answers)
            until(lambda: len(asking.answers) > before + 20 or asking.errors, 60)
        assert asking.errors == []
        assert set(asking.answers) <= right
        assert {len(answer) for answer in asking.answers} == {SHORT, LONG}
        assert (answers_now(server), server.metric("engine_restarts_total")) == (QUICK, 0)
        assert len(workers(server)) == 1
        assert server.client().models.list().data == models
        assert server.told(signal.SIGTERM) == 0
    said = server.said.read_text()
    assert f"better  {QUICK} is 4.00 ± " in said
    assert said.index("memory  about ", said.index("better  ")) < said.index(f"loading {QUICK}")
    assert f": {QUICK} answers from now on, 1 thread" in said
    assert "requests  CTranslate2 answers 4 at once: they run as a batch" in said
    assert f"{SLOW} has ended" in said
    kept = json.loads((tmp_path / "cache.traffic.json").read_text())["models"][str(model)]
    assert set(kept["candidates"]) == {SLOW, QUICK}
    assert kept["requests"] == len(asking.answers)


def test_the_server_that_an_engine_brings_takes_over_too(
    tiny: Folder, store: ArtifactStore, right: set[tuple[int, ...]], tmp_path: Path
) -> None:
    """Of its streams no token ids are told, so whole answers are asked for."""
    own = "llamacpp:f32"
    assembled(tiny("llama"), own, tmp_path, store)
    plant(tmp_path / "cache.db", tiny("llama"), first=QUICK, then=own)
    with adapting(tiny("llama"), tmp_path, store) as server:
        [old] = workers(server)
        with Asking(server, streams=False) as asking:
            until(lambda: server.metric("engine_switches_total") == 1 or asking.errors, 180)
            until(lambda: not runs(old) or asking.errors, 60)
            before = len(asking.answers)
            until(lambda: len(asking.answers) > before + 20 or asking.errors, 60)
        assert asking.errors == []
        assert set(asking.answers) <= right
        assert (answers_now(server), workers(server)) == (own, [])
        assert server.told(signal.SIGTERM) == 0


def test_told_to_stop_while_another_engine_loads_nothing_is_left(
    tiny: Folder, store: ArtifactStore, tmp_path: Path
) -> None:
    plant(tmp_path / "cache.db", tiny("llama"), first=QUICK, then=SLOW)
    with adapting(tiny("llama"), tmp_path, store) as server, Asking(server) as asking:
        until(lambda: len(workers(server)) == 2 or asking.errors, 180)
        assert asking.errors == []
        assert server.told(signal.SIGTERM) == 0
    said = server.said.read_text()
    assert f"loading {SLOW}" in said
    assert "answers from now on" not in said
    assert "Traceback" not in said


def test_an_engine_that_does_not_come_up_leaves_the_other_one_and_is_not_tried_again(
    tiny: Folder, store: ArtifactStore, right: set[tuple[int, ...]], tmp_path: Path
) -> None:
    plant(tmp_path / "cache.db", tiny("llama"), first=SLOW, then=QUICK)
    [weights] = store.root.glob("converted-*/content/model.bin")
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with adapting(tiny("llama"), tmp_path, store) as server:
        [old] = workers(server)
        with Asking(server) as asking:
            until(lambda: f"{QUICK} did not come up: " in server.said.read_text() or asking.errors, 180)
            time.sleep(10)  # after six looks it would be tried again
        assert asking.errors == []
        assert set(asking.answers) <= right
        assert (workers(server), answers_now(server)) == ([old], SLOW)
        assert server.metric("engine_switches_total") == 0
        assert server.said.read_text().count("did not come up") == 1
        assert server.told(signal.SIGTERM) == 0


def test_who_asks_in_the_first_moment_is_answered(
    tiny: Folder, store: ArtifactStore, right: set[tuple[int, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Worker.ask

    def late(worker: Worker, verb: str, *, timeout_s: float, **fields: Any) -> Reply | Trouble:
        if verb == "serve":
            time.sleep(1.0)
        return ask(worker, verb, timeout_s=timeout_s, **fields)

    monkeypatch.setattr(Worker, "ask", late)
    one = assembled(tiny("llama"), QUICK, tmp_path, store)

    async def story() -> tuple[int, ...]:
        starting = asyncio.create_task(one.serving.start())
        while not one.upstream.ready:
            await asyncio.sleep(0.001)
        wanted = Ask(prompt=tuple(PROMPT), max_tokens=SHORT, ignore_end=True)
        async with asyncio.timeout(120):
            tokens = tuple([token async for piece in one.upstream.answer(wanted) for token in piece.tokens])
        await starting
        await one.serving.stop(5.0)
        return tokens

    assert asyncio.run(story()) in right


def test_where_memory_holds_one_alone_requests_wait_for_the_other(
    tiny: Folder, store: ArtifactStore, right: set[tuple[int, ...]], tmp_path: Path
) -> None:
    # In this order: on a busy machine the slow one takes longer to load than requests wait.
    first, second = (assembled(tiny("llama"), label, tmp_path, store) for label in (SLOW, QUICK))

    def kept(one: Assembled, label: str) -> Kept:
        return Kept(upstream=one.upstream, keeper=Keeper(one.serving, label=label, say=print))

    async def tokens(gate: Gate) -> tuple[int, ...]:
        ask = Ask(prompt=tuple(PROMPT), max_tokens=SHORT, ignore_end=True)
        return tuple([token async for piece in gate.answer(ask) for token in piece.tokens])

    async def story() -> None:
        relay = Relay(kept(first, SLOW), drain_s=25.0)
        relay.begin()
        while not relay.gate.ready:
            await asyncio.sleep(0.01)
        [old] = workers_of(os.getpid())
        switched: list[float] = []
        asked = [asyncio.create_task(tokens(relay.gate)) for _ in range(4)]
        await asyncio.sleep(0)
        change = relay.switch_after(kept(second, QUICK), lambda: switched.append(1), unfit=lambda: "")
        changing = asyncio.create_task(change)
        await asyncio.sleep(0)
        asked += [asyncio.create_task(tokens(relay.gate)) for _ in range(4)]
        found = await asyncio.gather(*asked)
        await changing
        assert switched
        assert set(found) <= right
        assert [p for p in workers_of(os.getpid()) if p == old] == []
        await relay.stop(at_once=False)

    async def within_a_while() -> None:
        async with asyncio.timeout(120):
            await story()

    asyncio.run(within_a_while())
    assert workers_of(os.getpid()) == []
