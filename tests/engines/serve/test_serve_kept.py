"""`autobackend serve` keeps a real engine: one that is killed, dies while it loads, or hangs is started again."""

import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.engines.serve.asking import ENDLESS, FAST, LONG_S, PROMPT, SLOW, expected, ids, streamed_ids, text_of
from tests.engines.served import Served, serving, until

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]


def until_hung(server: Served) -> dict[str, Any]:
    """Wait until /health says so: its error."""
    told: list[dict[str, Any]] = []

    def is_ill() -> bool:
        status, body = server.get("/health")
        told.append(json.loads(body).get("error", {}))
        return status == 503

    until(is_ill, LONG_S)
    return told[-1]


def interpreter(backend: str, folder: Path, first: str) -> str:
    """A config file that gives a backend an interpreter of its own: a line of shell, and then this one."""
    prefix, config = folder / "venv", folder / "config.toml"
    (prefix / "bin").mkdir(parents=True)
    for name in ("lib", "share"):
        (prefix / name).symlink_to(Path(sys.prefix) / name)
    (prefix / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    python = prefix / "bin" / "python"
    python.write_text(f'#!/bin/sh\n{first}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    config.write_text(f'[backends.{backend}]\npython = "{python}"\n')
    return str(config)


def held(backend: str, folder: Path) -> tuple[str, Path]:
    """Such a file, and one that holds up who starts the interpreter while it is there: so nothing comes up unseen."""
    hold = folder / "hold"
    return interpreter(backend, folder, f"while [ -e {hold} ]; do sleep 0.05; done"), hold


def test_it_answers_and_survives_its_engine(tiny: Folder, tmp_path: Path) -> None:
    right = expected(tiny("llama"), 12)
    config, hold = held("ctranslate2", tmp_path)
    with serving(tiny("llama"), *FAST, "--slots", 2, folder=tmp_path, AUTOBACKEND_CONFIG=config) as server:
        answer = server.answer
        assert (answer["candidate"], answer["slots"], answer["context_tokens"]) == ("ctranslate2:float32", 2, 512)
        assert [model.id for model in server.client().models.list()] == [tiny("llama").name]
        assert ids(server, 12) == right
        tokens, reasons = streamed_ids(server, 12)
        assert (tokens, reasons[-1], set(reasons[:-1]) <= {None}) == (right, "length", True)
        assert server.metric("generation_tokens_total") == 24

        hold.touch()
        server.worker().kill()
        until(lambda: server.get("/health")[0] == 503, LONG_S)
        with pytest.raises(openai.APIStatusError) as caught:
            ids(server, 12)
        assert (caught.value.status_code, "is being started again" in str(caught.value)) == (503, True)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        hold.unlink()
        until(lambda: server.get("/health")[0] == 200, 120)
        assert ids(server, 12) == right
        assert server.metric("engine_restarts_total") == 1

        assert server.told(signal.SIGTERM) == 0
        said = server.said.read_text()
    assert "killed by SIGKILL" in said and "it is started again in 1 s" in said
    kept = json.loads((tmp_path / "cache.traffic.json").read_text())["models"][str(tiny("llama"))]
    assert (kept["requests"], kept["prompt_tokens"], kept["output_tokens"]) == (3, {"4": 3}, {"12": 3})


def test_a_request_within_a_killed_engine_is_told_so(tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama-long"), *SLOW, folder=tmp_path) as server:
        errors: list[openai.APIError] = []
        seen = threading.Event()

        def ask() -> None:
            try:
                streamed_ids(server, ENDLESS, seen)
            except openai.APIError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        assert seen.wait(LONG_S)
        assert server.metric("num_requests_running") == 1
        server.worker().kill()
        asking.join(LONG_S)
        assert not asking.is_alive()
        assert "ended while it answered" in str(errors[0])


def test_an_engine_that_dies_while_it_loads_is_loaded_again(tiny: Folder, tmp_path: Path) -> None:
    """In an interpreter whose first worker dies; nothing was told before the second one was ready."""
    died = tmp_path / "died"
    config = interpreter("transformers", tmp_path, f"mkdir {died} 2>/dev/null && kill -9 $$")
    with serving(tiny("llama"), *SLOW, folder=tmp_path, AUTOBACKEND_CONFIG=config) as server:
        assert died.exists()
        assert "transformers:eager ended: killed by SIGKILL" in server.said.read_text()
        assert (len(ids(server, 4)), server.answer["candidate"]) == (4, "transformers:eager")
        assert server.metric("engine_restarts_total") == 0


@pytest.mark.parametrize(("label", "idle"), [("transformers:eager", False), ("llamacpp:f32", True)])
def test_an_engine_that_hangs_is_noticed_and_started_again(
    label: str, idle: bool, tiny: Folder, tmp_path: Path
) -> None:
    """A worker of ours, and the server that an engine brings: stopped, they live and answer nothing."""
    config, hold = held(label.partition(":")[0], tmp_path)
    # A busy machine leaves a living engine without a core for a second or two.
    words = ("--backend", label, "--hung-after", 5)
    with serving(tiny("llama-long"), *words, folder=tmp_path, AUTOBACKEND_CONFIG=config) as server:
        right, worker = text_of(server), server.worker()
        errors: list[openai.APIError] = []
        seen = threading.Event()

        def ask() -> None:
            try:
                for _ in server.client().completions.create(
                    model=server.model, prompt=PROMPT, max_tokens=ENDLESS, temperature=0, stream=True,
                    extra_body={"ignore_eos": True},
                ):  # fmt: skip
                    seen.set()
            except openai.APIError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        hold.touch()
        if idle:
            worker.suspend()
            asking.start()
        else:
            asking.start()
            assert seen.wait(LONG_S)
            worker.suspend()
        health = until_hung(server)
        hold.unlink()
        asking.join(LONG_S)
        assert not asking.is_alive()
        assert f"{label} was ended: it hung, giving nothing for " in str(errors[0])
        assert (health["code"], "it hung" in health["message"]) == ("engine_hung", True)
        until(lambda: server.get("/health")[0] == 200, 120)
        assert text_of(server) == right
        assert server.metric("engine_restarts_total") == 1
        assert server.told(signal.SIGTERM) == 0
    said = server.said.read_text()
    assert re.search(rf"{label} ended: it hung, .* while 1 request ran; it is started again in 1 s", said)


def test_a_server_that_the_engine_brings_is_kept_like_a_worker(tiny: Folder, tmp_path: Path) -> None:
    config, hold = held("llamacpp", tmp_path)
    words = ("--backend", "llamacpp:f32", "--slots", 2)
    with serving(tiny("llama"), *words, folder=tmp_path, AUTOBACKEND_CONFIG=config) as server:
        answer = server.client().completions.create(model=server.model, prompt=PROMPT, max_tokens=12, temperature=0)
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, server.answer["batching"]) == (4, "continuous")
        assert server.client().completions.create(model=server.model, prompt="hello", max_tokens=2).usage is not None

        hold.touch()
        server.worker().kill()
        until(lambda: server.get("/health")[0] == 503, LONG_S)
        hold.unlink()
        until(lambda: server.get("/health")[0] == 200, 120)
        again = server.client().completions.create(model=server.model, prompt=PROMPT, max_tokens=12, temperature=0)
        assert again.choices[0].text == answer.choices[0].text
        assert server.metric("engine_restarts_total") == 1
        assert server.told(signal.SIGTERM) == 0
