"""`autobackend serve` with a real engine: asked by the openai client, by many at once, with a key."""

import http.client
import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import openai
import pytest

from calibration.cache.cache import Cache
from selector.demand.demand import Demand
from selector.selection import choose
from tests.engines.printed_commands import DEMAND, free_port, served
from tests.engines.serve.asking import ENDLESS, FAST, LONG_S, PROMPT, SLOW, ids
from tests.engines.served import Served, serving, until

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def shared(tiny: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for tests that leave it as it was."""
    with serving(tiny("llama-long"), *SLOW, folder=tmp_path_factory.mktemp("shared")) as server:
        yield server


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


def test_many_ask_at_once_and_each_gets_its_own_answer(shared: Served) -> None:
    prompts = [[5, 6, 7, 8 + number] for number in range(64)]
    alone = [ids(shared, 6, prompt) for prompt in prompts[:8]]
    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(lambda prompt: ids(shared, 6, prompt), prompts))
    assert together[:8] == alone
    assert len({tuple(tokens) for tokens in together}) > 8
    until(lambda: shared.metric("num_requests_running") == shared.metric("num_requests_waiting") == 0, LONG_S)


def test_a_client_that_leaves_frees_its_place(shared: Served) -> None:
    asked = {"model": shared.model, "prompt": PROMPT, "max_tokens": ENDLESS, "ignore_eos": True, "stream": True}
    with closing(http.client.HTTPConnection(shared.url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
        until(lambda: shared.metric("num_requests_running") == 1, LONG_S)
    until(lambda: shared.metric("num_requests_running") == 0, LONG_S)
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
