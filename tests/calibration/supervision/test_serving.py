"""A real worker process that serves a tiny engine: its good days, its bad ones, and what is left of it."""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from calibration.backend import Job, Variant
from calibration.engine.streams import Delta, Finish, Request
from calibration.measurement import FailureKind
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.serving import ServingWorker
from calibration.supervision.supervisor import Worker
from calibration.worker.opening import Opening

ENGINE = str(Path(__file__).parents[1] / "tiny_engines" / "counting_streams.py")
VOCAB = 1 << 20


@dataclass
class Served:
    """What comes from a worker, by request, on the thread of the test."""

    worker: Worker
    fields: dict[str, Any]
    """Of the answer to `load_streams`."""
    log: Path
    serving: ServingWorker = field(init=False)
    deltas: "queue.SimpleQueue[Delta]" = field(default_factory=queue.SimpleQueue)
    ends: list[Trouble] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    kills_at_the_end: bool = False

    def __post_init__(self) -> None:
        self.serving = ServingWorker(self.worker, on_deltas=self._take, on_end=self._end)

    def _take(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            self.deltas.put(delta)

    def _end(self, trouble: Trouble) -> None:
        self.ends.append(trouble)
        if self.kills_at_the_end:
            self.serving.kill()
        self.ended.set()

    def next(self) -> Delta:
        return self.deltas.get(timeout=10)

    def until(self, name: str) -> list[Delta]:
        """All deltas up to the end of a request."""
        come = [self.next()]
        while not (come[-1].id == name and come[-1].finish):
            come.append(self.next())
        return come

    def tokens(self, name: str) -> list[int]:
        return [token for delta in self.until(name) if delta.id == name for token in delta.tokens]


@contextmanager
def a_server(tmp_path: Path, *, limit: int = 8 << 30, places: int = 4, **options: Any) -> Iterator[Served]:
    """A worker that serves, and is gone afterwards."""
    job = Job(
        model_dir=tmp_path, artifact_dir=None, dtype="float32", vocab_size=VOCAB, device="cpu", threads=1,
        max_context_tokens=1 << 20, max_batch=places, variant=Variant(name="plain", options=options),
    )  # fmt: skip
    log = tmp_path / "log"
    with Worker(Path(sys.executable), log=log, memory_limit_bytes=limit) as worker:
        opening = Opening(backend="counting", job=job, source=ENGINE).request()
        assert isinstance(worker.ask("open", timeout_s=30, **opening), Reply)
        loaded = worker.ask("load_streams", timeout_s=30)
        assert isinstance(loaded, Reply), loaded
        served = Served(worker=worker, fields=dict(loaded.fields), log=log)
        assert served.serving.start() is None
        pid = worker.pid
        try:
            yield served
        finally:
            served.serving.kill()
    assert members(pid) == []
    assert "autobackend-deltas" not in {thread.name for thread in threading.enumerate()}


def members(pid: int) -> list[int]:
    """Processes whose group is the worker's, zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            continue
    return found


def request(name: str, *, first: int = 5, max_tokens: int = 3, **fields: Any) -> Request:
    return Request(id=name, prompt=(first,), max_tokens=max_tokens, **fields)


def test_requests_come_while_others_run(tmp_path: Path) -> None:
    with a_server(tmp_path) as served:
        assert {name: served.fields[name] for name in ("abilities", "batching")} == {
            "abilities": ["logprobs", "seed", "temperature"],
            "batching": "continuous",
        }
        assert served.fields["seconds"] >= 0
        served.serving.add(request("long", max_tokens=100_000))
        assert served.next() == Delta(id="long", tokens=(6,))
        served.serving.add(request("short", first=50))
        come = served.until("short")
        assert [delta for delta in come if delta.id == "short"] == [
            Delta(id="short", tokens=(51,)),
            Delta(id="short", tokens=(52,)),
            Delta(id="short", tokens=(53,), finish=Finish.LENGTH),
        ]
        long = [token for delta in come if delta.id == "long" for token in delta.tokens]
        assert long == list(range(7, 7 + len(long)))


def test_an_engine_that_can_only_generate_serves_too(tmp_path: Path) -> None:
    with a_server(tmp_path, whole=True) as served:
        assert (served.fields["abilities"], served.fields["batching"]) == ([], "none")
        served.serving.add(request("a"))
        served.serving.add(request("b", end_tokens=frozenset({7})))
        assert served.until("b") == [
            Delta(id="a", tokens=(6, 7, 8), finish=Finish.LENGTH),
            Delta(id="b", tokens=(6, 7), finish=Finish.STOP),
        ]


def test_what_is_cancelled_frees_its_place(tmp_path: Path) -> None:
    with a_server(tmp_path, places=1) as served:
        served.serving.add(request("holds", max_tokens=100_000))
        served.serving.add(request("waits", first=50))
        assert {served.next().id for _ in range(20)} == {"holds"}
        served.serving.cancel("holds")
        served.serving.cancel("nobody")
        assert served.tokens("waits") == [51, 52, 53]
        time.sleep(0.05)
        assert served.deltas.empty()


def test_a_request_that_the_engine_refuses_leaves_the_others_alone(tmp_path: Path) -> None:
    with a_server(tmp_path, refuses=True, at_token={"101": "fail"}) as served:
        served.serving.add(request("other", first=200, max_tokens=300))
        served.next()
        served.serving.add(request("unlucky", first=13))
        served.serving.add(request("strange", first=VOCAB))
        served.serving.add(request("fails", first=99, max_tokens=9))
        come = served.until("other")
        ends = {delta.id: (delta.finish, delta.message) for delta in come if delta.finish}
        assert ends == {
            "unlucky": (Finish.ERROR, "needs luck; found 13"),
            "strange": (Finish.ERROR, f"needs token ids from 0 to {VOCAB - 1}; found {VOCAB}"),
            "fails": (Finish.ERROR, "this one went wrong"),
            "other": (Finish.LENGTH, ""),
        }
        assert sum(len(delta.tokens) for delta in come if delta.id == "other") == 299
        assert served.ends == []


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raise", FailureKind.CRASHED, "RuntimeError: kernel exploded"),
        ("memory error", FailureKind.OUT_OF_MEMORY, "MemoryError: no room for the KV cache"),
        ("exit", FailureKind.CRASHED, "the worker ended with exit code 3"),
        ("garbage", FailureKind.CRASHED, "TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_an_engine_that_fails_ends_the_worker(tmp_path: Path, how: str, kind: FailureKind, message: str) -> None:
    with a_server(tmp_path, at_token={"20": how}) as served:
        served.serving.add(request("a", max_tokens=100))
        assert served.ended.wait(10)
        assert served.serving.join(10)
        assert served.ends == [Trouble(kind=kind, message=message)]
        assert not eventually_writable(lambda: served.serving.add(request("late")))


def eventually_writable(send: Callable[[], None]) -> bool:
    """Whether a pipe still takes lines after a second: the process is ending when its last line has come."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            send()
        except BrokenPipeError:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_killed_worker_is_told_once_within_a_second(tmp_path: Path, is_busy: bool) -> None:
    with a_server(tmp_path) as served:
        if is_busy:
            served.serving.add(request("a", max_tokens=1_000_000))
            served.next()
        os.kill(served.worker.pid, signal.SIGKILL)
        assert served.ended.wait(1.0)
        assert served.serving.join(1.0)
        assert [trouble.kind for trouble in served.ends] == [FailureKind.CRASHED]
        assert served.ends[0].message.startswith("killed by SIGKILL")
        with pytest.raises(BrokenPipeError):
            served.serving.add(request("late"))
    assert len(served.ends) == 1


def test_prompts_of_a_megabyte_go_through_while_others_run(tmp_path: Path) -> None:
    prompt = tuple(range(500_000, 650_000))
    with a_server(tmp_path) as served:
        served.serving.add(request("runs", max_tokens=1_000_000))
        for name in "abc":
            served.serving.add(Request(id=name, prompt=prompt, max_tokens=2))
        ends: dict[str, tuple[int, ...]] = {}
        while len(ends) < 3:
            delta = served.next()
            if delta.finish:
                ends[delta.id] = delta.tokens
        assert ends == dict.fromkeys("abc", (650_001,))


def test_two_threads_may_send_at_once(tmp_path: Path) -> None:
    """Long lines, longer than what a pipe takes in one piece, do not run into each other."""
    prompt = tuple(range(100_000, 120_000))

    def send(names: Sequence[str]) -> None:
        for name in names:
            served.serving.add(Request(id=name, prompt=prompt, max_tokens=1))

    with a_server(tmp_path) as served:
        threads = [threading.Thread(target=send, args=([f"{t}-{n}" for n in range(5)],)) for t in range(3)]
        for thread in threads:
            thread.start()
        come = [served.next() for _ in range(15)]
        for thread in threads:
            thread.join()
    assert {delta.finish for delta in come} == {Finish.LENGTH}
    assert len({delta.id for delta in come}) == 15


def test_it_closes_when_it_is_told_to(tmp_path: Path) -> None:
    with a_server(tmp_path) as served:
        served.serving.add(request("runs", max_tokens=1_000_000))
        served.next()
        served.serving.close()
        assert served.ended.wait(5.0)
        assert served.serving.join(1.0)
        assert served.ends == [Trouble(kind=FailureKind.CRASHED, message="the worker ended with exit code 0")]
        assert served.log.read_text().strip() == "closed"


def test_one_that_takes_too_much_memory_is_told_while_lines_come(tmp_path: Path) -> None:
    with a_server(tmp_path, limit=256 << 20, step_s=0.0, at_token={"1000": "grow"}) as served:
        served.serving.add(request("a", max_tokens=1_000_000))
        assert served.ended.wait(10.0)
        [trouble] = served.ends
        assert trouble.kind is FailureKind.OUT_OF_MEMORY
        assert trouble.message.endswith("GiB; 0.2 GiB are allowed")


def test_a_worker_that_writes_what_is_no_answer_is_told(tmp_path: Path) -> None:
    """It would run on: whoever is told may end it there and then."""
    with a_server(tmp_path, at_token={"20": "noise"}) as served:
        served.kills_at_the_end = True
        served.serving.add(request("a", max_tokens=100))
        assert served.ended.wait(10.0)
        assert served.ends == [
            Trouble(kind=FailureKind.CRASHED, message="the worker sent what is no answer: '\ufffd not json'")
        ]
        assert members(served.worker.pid) == []


def test_an_engine_that_cannot_run_the_model_refuses(tmp_path: Path) -> None:
    job = Job(
        model_dir=tmp_path, artifact_dir=None, dtype="float32", vocab_size=VOCAB, device="cpu", threads=1,
        max_context_tokens=128, max_batch=1, variant=Variant(name="plain", options={"load": "refuse"}),
    )  # fmt: skip
    with Worker(Path(sys.executable), log=tmp_path / "log", memory_limit_bytes=8 << 30) as worker:
        worker.ask("open", timeout_s=30, **Opening(backend="counting", job=job, source=ENGINE).request())
        answer = worker.ask("load_streams", timeout_s=30)
    assert answer == Trouble(kind=FailureKind.REFUSED, message="ValueError: cannot load this architecture")
