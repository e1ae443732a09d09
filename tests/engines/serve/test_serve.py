"""`autobackend serve` with a real engine: asked by the openai client, its engine killed, and told to stop."""

import http.client
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from calibration.cache.cache import Cache
from calibration.registry import find
from selector.demand.demand import Demand
from selector.selection import choose
from tests.engines import tiny_models
from tests.engines.printed_commands import DEMAND, free_port, served
from tests.engines.served import Served, runs, serving, started, until

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

FAST = ("--backend", "ctranslate2:float32")
"""Loads a small model in a moment."""
SLOW = ("--backend", "transformers:eager")
"""Takes so long for an answer that something can happen meanwhile."""
Folder = Callable[..., Path]
PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def shared(tiny: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for tests that leave it as it was."""
    with serving(tiny("llama"), *SLOW, folder=tmp_path_factory.mktemp("shared")) as server:
        yield server


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


def until_hung(server: Served) -> dict[str, Any]:
    """Wait until /health says so: its error."""
    told: list[dict[str, Any]] = []

    def is_ill() -> bool:
        status, body = server.get("/health")
        told.append(json.loads(body).get("error", {}))
        return status == 503

    until(is_ill, 10)
    return told[-1]


def expected(folder: Path, count: int, label: str = "ctranslate2:float32") -> list[int]:
    """What the engine generates by itself."""
    backend, _, variant = label.partition(":")
    engine = tiny_models.load(find(backend), variant, folder)
    return list(engine.generate([PROMPT], count).tokens[0])


def test_it_answers_and_survives_its_engine(tiny: Folder, tmp_path: Path) -> None:
    right = expected(tiny("llama"), 12)
    with serving(tiny("llama"), *FAST, "--slots", 2, folder=tmp_path) as server:
        answer = server.answer
        assert (answer["candidate"], answer["slots"], answer["context_tokens"]) == ("ctranslate2:float32", 2, 512)
        assert [model.id for model in server.client().models.list()] == [tiny("llama").name]
        assert ids(server, 12) == right
        tokens, reasons = streamed_ids(server, 12)
        assert (tokens, reasons[-1], set(reasons[:-1]) <= {None}) == (right, "length", True)
        assert server.metric("generation_tokens_total") == 24

        server.worker().kill()
        assert until(lambda: server.get("/health")[0] == 503, 1) < 1
        with pytest.raises(openai.APIStatusError) as caught:
            ids(server, 12)
        assert (caught.value.status_code, "is being started again" in str(caught.value)) == (503, True)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        until(lambda: server.get("/health")[0] == 200, 120)
        assert ids(server, 12) == right
        assert server.metric("engine_restarts_total") == 1

        assert server.told(signal.SIGTERM) == 0
        said = server.said.read_text()
    assert "killed by SIGKILL" in said and "it is started again in 1 s" in said
    kept = json.loads((tmp_path / "cache.traffic.json").read_text())["models"][str(tiny("llama"))]
    assert (kept["requests"], kept["prompt_tokens"], kept["output_tokens"]) == (3, {"4": 3}, {"12": 3})


def test_a_request_within_a_killed_engine_is_told_so(tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama"), *SLOW, folder=tmp_path) as server:
        errors: list[openai.APIError] = []

        def ask() -> None:
            try:
                streamed_ids(server, 500)
            except openai.APIError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: server.metric("num_requests_running") == 1, 30)
        server.worker().kill()
        asking.join(2)
        assert not asking.is_alive()
        assert "ended while it answered" in str(errors[0])


def test_an_engine_that_dies_while_it_loads_is_loaded_again(tiny: Folder, tmp_path: Path) -> None:
    """In an interpreter whose first worker dies; nothing was told before the second one was ready."""
    died, bin_folder, config = tmp_path / "died", tmp_path / "venv" / "bin", tmp_path / "config.toml"
    bin_folder.mkdir(parents=True)
    (bin_folder.parent / "lib").symlink_to(Path(sys.prefix) / "lib")
    (bin_folder.parent / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    python = bin_folder / "python"
    python.write_text(f'#!/bin/sh\nmkdir {died} 2>/dev/null && kill -9 $$\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    config.write_text(f'[backends.transformers]\npython = "{python}"\n')
    with serving(tiny("llama"), *SLOW, folder=tmp_path, AUTOBACKEND_CONFIG=str(config)) as server:
        assert died.exists()
        assert "transformers:eager ended: killed by SIGKILL" in server.said.read_text()
        assert (len(ids(server, 4)), server.answer["candidate"]) == (4, "transformers:eager")
        assert server.metric("engine_restarts_total") == 0


@pytest.mark.parametrize(("label", "idle"), [("transformers:eager", False), ("llamacpp:f32", True)])
def test_an_engine_that_hangs_is_noticed_and_started_again(
    label: str, idle: bool, tiny: Folder, tmp_path: Path
) -> None:
    """A worker of ours, and the server that an engine brings: stopped, they live and answer nothing."""
    with serving(tiny("llama"), "--backend", label, "--hung-after", 2, folder=tmp_path) as server:
        right, worker = text_of(server), server.worker()
        errors: list[openai.APIError] = []
        seen = threading.Event()

        def ask() -> None:
            try:
                for _ in server.client().completions.create(
                    model=server.model, prompt=PROMPT, max_tokens=500, temperature=0, stream=True,
                    extra_body={"ignore_eos": True},
                ):  # fmt: skip
                    seen.set()
            except openai.APIError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        if idle:
            worker.suspend()
            asking.start()
        else:
            asking.start()
            assert seen.wait(30)
            worker.suspend()
        health = until_hung(server)
        asking.join(5)
        assert not asking.is_alive()
        assert f"{label} was ended: it hung, giving nothing for " in str(errors[0])
        assert (health["code"], "it hung" in health["message"]) == ("engine_hung", True)
        until(lambda: server.get("/health")[0] == 200, 120)
        assert text_of(server) == right
        assert server.metric("engine_restarts_total") == 1
        assert server.told(signal.SIGTERM) == 0
    said = server.said.read_text()
    assert re.search(rf"{label} ended: it hung, .* while 1 request ran; it is started again in 1 s", said)


def test_when_it_is_told_to_stop_a_running_request_ends_first(tiny: Folder, tmp_path: Path) -> None:
    right = expected(tiny("llama"), 150, "transformers:eager")
    with serving(tiny("llama"), *SLOW, "--drain", 120, folder=tmp_path) as server:
        answers: list[list[int]] = []
        seen = threading.Event()
        asking = threading.Thread(target=lambda: answers.append(streamed_ids(server, 150, seen)[0]))
        asking.start()
        assert seen.wait(60)
        assert server.metric("num_requests_running") == 1
        family = server.family()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/health")[0] == 503, 1)
        with pytest.raises(openai.InternalServerError, match="the server is being stopped") as caught:
            ids(server, 4)
        assert caught.value.status_code == 503
        asking.join(120)
        assert answers == [right]
        assert server.process.wait(30) == 0
        until(lambda: not [p for p in family if runs(p)], 5)
        assert "stopping: 1 request runs and may end within 120 s" in server.said.read_text()


@pytest.mark.parametrize(("drain", "numbers", "code"), [(60, 2, 128 + signal.SIGINT), (0, 1, 0)])
def test_it_does_not_wait_for_ever(drain: int, numbers: int, code: int, tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama"), *SLOW, "--drain", drain, folder=tmp_path) as server:
        errors: list[Exception] = []

        def ask() -> None:
            try:
                streamed_ids(server, 500)
            except openai.OpenAIError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: server.metric("num_requests_running") == 1, 30)
        family = server.family()
        for _ in range(numbers):
            server.process.send_signal(signal.SIGINT)
            until(lambda: "stopping: " in server.said.read_text(), 5)
        assert server.process.wait(5) == code
        until(lambda: not [p for p in family if runs(p)], 5)
        asking.join(5)
        assert len(errors) == 1


@pytest.mark.parametrize(
    ("backend", "doing", "code"),
    [
        ("transformers:eager", "loading transformers:eager", 0),
        ("ctranslate2:float32", "converting the model, once", 128 + signal.SIGTERM),
    ],
)
def test_it_may_be_told_to_stop_before_it_is_ready(
    backend: str, doing: str, code: int, tiny: Folder, tmp_path: Path
) -> None:
    said, store = tmp_path / "said.txt", tmp_path / "artifacts"
    own = {"AUTOBACKEND_ARTIFACTS": str(store)}
    with started(tiny("llama"), "--backend", backend, folder=tmp_path, said=said, **own) as process:
        until(lambda: doing in said.read_text(), 60)
        until(lambda: psutil.Process(process.pid).children(recursive=True), 10)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == code, said.read_text()
        until(lambda: not [p for p in family if runs(p)], 5)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert "Traceback" not in said.read_text()
    assert list(store.glob("*.part-*")) == []


def test_when_it_is_killed_nothing_is_left(tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama"), *FAST, folder=tmp_path) as server:
        family = server.family()
        assert len([p for p in family if runs(p)]) >= 2
        psutil.Process(server.process.pid).kill()
        until(lambda: not [p for p in family if runs(p)], 5)


def test_a_key_is_asked_for(tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama"), *FAST, folder=tmp_path, AUTOBACKEND_API_KEY="first second") as server:
        with pytest.raises(openai.AuthenticationError):
            server.client("third").models.list()
        for key in ("first", "second"):
            assert [model.id for model in server.client(key).models.list()] == [server.model]
        assert server.get("/health")[0] == server.get("/metrics")[0] == 200


def test_what_is_not_converted_yet_is_converted_first(tiny: Folder, tmp_path: Path) -> None:
    own = {"AUTOBACKEND_ARTIFACTS": str(tmp_path / "artifacts")}
    with serving(tiny("llama"), *FAST, "--no-observe", folder=tmp_path, **own) as server:
        assert len(ids(server, 8)) == 8
        said = server.said.read_text()
        assert "converting the model, once: about " in said
        assert server.told(signal.SIGTERM) == 0
    assert not (tmp_path / "cache.traffic.json").exists()


def test_an_engine_that_cannot_load_the_model_ends_it(tiny: Folder, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny("llama").iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".safetensors" else content)
    with pytest.raises(AssertionError) as caught, serving(broken, *SLOW, folder=tmp_path):
        pass
    said = str(caught.value)
    assert said.startswith("it ended with 16:")
    assert "error: transformers:eager cannot be loaded: " in said
    assert "name another with --backend" in said


def test_a_server_that_the_engine_brings_is_kept_like_a_worker(tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama"), "--backend", "llamacpp:f32", "--slots", 2, folder=tmp_path) as server:
        answer = server.client().completions.create(model=server.model, prompt=PROMPT, max_tokens=12, temperature=0)
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, server.answer["batching"]) == (4, "continuous")
        assert server.client().completions.create(model=server.model, prompt="hello", max_tokens=2).usage is not None

        server.worker().kill()
        until(lambda: server.get("/health")[0] == 503, 1)
        until(lambda: server.get("/health")[0] == 200, 120)
        again = server.client().completions.create(model=server.model, prompt=PROMPT, max_tokens=12, temperature=0)
        assert again.choices[0].text == answer.choices[0].text
        assert server.metric("engine_restarts_total") == 1
        assert server.told(signal.SIGTERM) == 0


def test_many_ask_at_once_and_each_gets_its_own_answer(shared: Served) -> None:
    prompts = [[5, 6, 7, 8 + number] for number in range(64)]
    alone = [ids(shared, 6, prompt) for prompt in prompts[:8]]
    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(lambda prompt: ids(shared, 6, prompt), prompts))
    assert together[:8] == alone
    assert len({tuple(tokens) for tokens in together}) > 8
    until(lambda: shared.metric("num_requests_running") == shared.metric("num_requests_waiting") == 0, 2)


def test_a_client_that_leaves_frees_its_place(shared: Served) -> None:
    asked = {"model": shared.model, "prompt": PROMPT, "max_tokens": 500, "ignore_eos": True, "stream": True}
    with closing(http.client.HTTPConnection(shared.url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
        until(lambda: shared.metric("num_requests_running") == 1, 30)
    until(lambda: shared.metric("num_requests_running") == 0, 2)
    assert len(ids(shared, 4)) == 4
    ends = shared.get("/metrics")[1].splitlines()
    assert [line for line in ends if 'finished_reason="abort"' in line and line.endswith(" 1.0")]


@pytest.mark.parametrize(
    ("label", "lossy", "place"),
    [
        ("ctranslate2:float32", "", "folder"),
        ("onnxruntime:int8", " --allow-lossy", "folder"),
        ("openvino:fp32-sdpa", "", "folder"),
        ("llamacpp:q4_0", " --allow-lossy", "folder"),
        ("llamacpp:gguf", "", "file"),
        ("transformers:int8", " --allow-lossy", "folder"),
        ("transformers:eager", "", "file"),
    ],
)
def test_the_command_of_an_engine_without_a_server_serves(
    label: str, lossy: str, place: str, tiny: Folder, gguf: Path, tmp_path: Path
) -> None:
    model = {"folder": tiny("llama"), "file": gguf}[place]
    with Cache.open(tmp_path / "cache.db") as cache:
        demand = Demand.of(DEMAND, backend=label, allow_lossy=bool(lossy))
        command = choose(str(model), demand, cache=cache).command()
    assert command == f"autobackend serve {model} --workload pp16:tg8:b1 --backends {label}{lossy}"
    port = free_port()
    with served(f"{command} --port {port}", port, tmp_path):
        with openai.OpenAI(base_url=f"http://localhost:{port}/v1", api_key="none", max_retries=0) as client:
            answer = client.completions.create(model=model.stem, prompt=PROMPT, max_tokens=8, temperature=0)
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 8)
