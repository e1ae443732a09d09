"""A worker's good and bad days: every one ends as a reply or a trouble, and nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from calibration.backend import Job, Variant
from calibration.measurement import FailureKind
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.supervisor import Worker
from calibration.worker.opening import Opening

ENGINE = str(Path(__file__).parents[1] / "tiny_engines" / "scripted.py")


def a_worker(tmp_path: Path, *, limit: int = 8 << 30, **variables: str) -> Worker:
    return Worker(Path(sys.executable), log=tmp_path / "log", memory_limit_bytes=limit, variables=variables)


def opened(worker: Worker, tmp_path: Path, **options: object) -> None:
    job = Job(
        model_dir=tmp_path, artifact_dir=None, dtype="float32", vocab_size=64, device="cpu", threads=1,
        max_context_tokens=128, max_batch=4, variant=Variant(name="plain", options=options),
    )  # fmt: skip
    reply = worker.ask("open", timeout_s=30, **Opening(backend="scripted", job=job, source=ENGINE).request())
    assert isinstance(reply, Reply), reply


def group_members(pid: int) -> list[int]:
    """Processes whose group is the worker's, zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            continue
    return found


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def test_a_sample_is_timed_and_the_worker_leaves_nothing(tmp_path: Path) -> None:
    with a_worker(tmp_path) as worker:
        opened(worker, tmp_path, step_s=0.01)
        loaded = worker.ask("load", timeout_s=30)
        sample = worker.ask("sample", timeout_s=30, seed="a", prompt_tokens=5, output_tokens=4, batch=2)
        pid = worker.pid
    assert isinstance(loaded, Reply)
    assert isinstance(sample, Reply)
    assert sample.fields["ttft_s"] >= 0.01
    assert sample.fields["tpot_s"] >= 0.01
    assert worker.log_tail() == "loading"
    assert worker.peak_memory_bytes > 5 << 20
    assert group_members(pid) == []


@pytest.mark.parametrize(
    ("stage", "how", "kind", "message"),
    [
        ("load", "segfault", FailureKind.CRASHED, "killed by SIGSEGV"),
        ("load", "abort", FailureKind.CRASHED, "killed by SIGABRT"),
        ("load", "exit", FailureKind.CRASHED, "the worker ended with exit code 3"),
        ("load", "hang", FailureKind.TIMED_OUT, "no answer within the time limit"),
        ("load", "refuse", FailureKind.REFUSED, "ValueError: cannot load this architecture"),
        ("load", "memory error", FailureKind.OUT_OF_MEMORY, "MemoryError: no room for the KV cache"),
        ("load", "garbage", FailureKind.CRASHED, "the worker sent what is no answer: '\ufffd\\x00 not json'"),
        ("generate", "segfault", FailureKind.CRASHED, "killed by SIGSEGV"),
        ("generate", "hang", FailureKind.TIMED_OUT, "no answer within the time limit"),
    ],
)
def test_a_bad_day_is_a_trouble_with_its_kind(
    tmp_path: Path, stage: str, how: str, kind: FailureKind, message: str
) -> None:
    with a_worker(tmp_path) as worker:
        opened(worker, tmp_path, **{stage: how})
        answer = worker.ask("load", timeout_s=2 if how == "hang" else 30)
        if stage == "generate":
            answer = worker.ask(
                "sample", timeout_s=1 if how == "hang" else 30, seed="", prompt_tokens=4, output_tokens=2, batch=1
            )
        pid = worker.pid
    assert answer == Trouble(kind=kind, message=message, at_deadline=how == "hang")
    assert group_members(pid) == []


def test_a_worker_that_takes_too_much_memory_is_killed(tmp_path: Path) -> None:
    with a_worker(tmp_path, limit=300 << 20) as worker:
        opened(worker, tmp_path, load="memory")
        answer = worker.ask("load", timeout_s=60)
    assert isinstance(answer, Trouble)
    assert answer.kind is FailureKind.OUT_OF_MEMORY
    assert answer.message.endswith("GiB; 0.3 GiB are allowed")


def test_an_engine_that_stops_early_gives_wrong_output(tmp_path: Path) -> None:
    with a_worker(tmp_path) as worker:
        opened(worker, tmp_path, stops_early=True)
        worker.ask("load", timeout_s=30)
        answer = worker.ask("sample", timeout_s=30, seed="", prompt_tokens=4, output_tokens=5, batch=2)
    assert answer == Trouble(
        kind=FailureKind.WRONG_OUTPUT, message="StoppedEarly: asked for 5 tokens of each of 2 prompts; got [4, 4]"
    )


def test_a_child_that_left_the_group_is_killed_too(tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    with a_worker(tmp_path, SCRIPTED_CHILD_FILE=str(child_file)) as worker:
        opened(worker, tmp_path, load="child")
        worker.ask("load", timeout_s=30)
        child = int(child_file.read_text())
        assert psutil.pid_exists(child)
    assert eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_kill_9_of_the_parent_ends_the_workers_group(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from calibration.supervision.supervisor import Worker\n"
        f"w = Worker(Path(sys.executable), log=Path({str(tmp_path / 'log')!r}), memory_limit_bytes=1 << 33)\n"
        "print(w.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert eventually(lambda: len(group_members(pid)) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert eventually(lambda: group_members(pid) == [])


def test_an_interpreter_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Worker(tmp_path / "python", log=tmp_path / "log", memory_limit_bytes=1 << 30)
