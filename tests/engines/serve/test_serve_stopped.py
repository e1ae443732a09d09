"""`autobackend serve` with a real engine is told to stop, or is killed: what runs may end, and nothing is left."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import openai
import psutil
import pytest

from tests.engines.serve.asking import ENDLESS, FAST, LONG_S, SLOW, expected, ids, streamed_ids
from tests.engines.served import runs, serving, started, until

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]


def test_when_it_is_told_to_stop_a_running_request_ends_first(tiny: Folder, tmp_path: Path) -> None:
    right = expected(tiny("llama-long"), 1000, "transformers:eager")
    with serving(tiny("llama-long"), *SLOW, "--drain", 120, folder=tmp_path) as server:
        answers: list[list[int]] = []
        seen = threading.Event()
        asking = threading.Thread(target=lambda: answers.append(streamed_ids(server, 1000, seen)[0]))
        asking.start()
        assert seen.wait(LONG_S)
        assert server.metric("num_requests_running") == 1
        family = server.family()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/health")[0] == 503, LONG_S)
        with pytest.raises(openai.InternalServerError, match="the server is being stopped") as caught:
            ids(server, 4)
        assert caught.value.status_code == 503
        asking.join(120)
        assert answers == [right]
        assert server.process.wait(LONG_S) == 0
        until(lambda: not [p for p in family if runs(p)], LONG_S)
        assert "stopping: 1 request runs and may end within 120 s" in server.said.read_text()


@pytest.mark.parametrize(("drain", "numbers", "code"), [(600, 2, 128 + signal.SIGINT), (0, 1, 0)])
def test_it_does_not_wait_for_ever(drain: int, numbers: int, code: int, tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama-long"), *SLOW, "--drain", drain, folder=tmp_path) as server:
        errors: list[Exception] = []
        seen = threading.Event()

        def ask() -> None:
            try:
                streamed_ids(server, ENDLESS, seen)
            except openai.OpenAIError as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        assert seen.wait(LONG_S)
        assert server.metric("num_requests_running") == 1
        family = server.family()
        for _ in range(numbers):
            server.process.send_signal(signal.SIGINT)
            until(lambda: "stopping: " in server.said.read_text(), LONG_S)
        assert server.process.wait(LONG_S) == code
        until(lambda: not [p for p in family if runs(p)], LONG_S)
        asking.join(LONG_S)
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
        until(lambda: doing in said.read_text(), LONG_S)
        until(lambda: psutil.Process(process.pid).children(recursive=True), LONG_S)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_S) == code, said.read_text()
        until(lambda: not [p for p in family if runs(p)], LONG_S)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert "Traceback" not in said.read_text()
    assert list(store.glob("*.part-*")) == []


def test_when_it_is_killed_nothing_is_left(tiny: Folder, tmp_path: Path) -> None:
    with serving(tiny("llama"), *FAST, folder=tmp_path) as server:
        family = server.family()
        assert len([p for p in family if runs(p)]) >= 2
        psutil.Process(server.process.pid).kill()
        until(lambda: not [p for p in family if runs(p)], LONG_S)
