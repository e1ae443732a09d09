"""A real, tiny engine that counts, and misbehaves where its options say so; loaded by the worker from this file."""

import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from calibration.backend import Backend, Engine, Facts, Generation, Job, Variant

VOCAB = 64
SLEEPS_S = {"slow": 0.3, "slower": 1.5}


def next_token(tokens: Sequence[int]) -> int:
    """The model: the sum of all tokens so far, each times its place."""
    return sum(place * token for place, token in enumerate(tokens, start=1)) % VOCAB


class CountingEngine(Engine):
    """Continues every sequence by `next_token`; its options choose where it goes wrong."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options = options
        self.calls = 0

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        self.calls += 1
        began = time.perf_counter()
        misbehave(str(self.options.get("generate", "")))
        if self.options.get("generate") == "raise" and self.calls > 4:
            raise RuntimeError("kernel exploded")
        if len(prompts) > 1:
            time.sleep(float(self.options.get("batch_s", 0.0)))  # type: ignore[arg-type]
        rows = [list(p) for p in prompts]
        steps = new_tokens - 1 if self.options.get("stops_early") else new_tokens
        times = []
        for _ in range(steps):
            for row in rows:
                row.append((next_token(row) + (1 if self.options.get("off_by_one") else 0)) % VOCAB)
            time.sleep(float(self.options.get("step_s", 0.0)))  # type: ignore[arg-type]
            times.append(time.perf_counter() - began)
        new = [tuple(row[len(p) :]) for row, p in zip(rows, prompts, strict=True)]
        if self.options.get("swaps_rows"):
            new.reverse()
        return Generation(tokens=tuple(new), arrivals=tuple(tuple(times) for _ in prompts))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> list[list[float]] | None:
        if self.options.get("no_scores"):
            return None
        rows = []
        for end in range(len(continuation) + 1):
            best = next_token([*prompt, *continuation[:end]])
            row = [8.0 if t == best else -0.01 * ((t * 7 + end) % 13) for t in range(VOCAB)]
            if self.options.get("ties"):
                row[(best + 1) % VOCAB] = 7.9999
            rows.append(row)
        return rows


class Scripted(Backend):
    name = "scripted"
    facts = Facts(
        title="Scripted",
        url="",
        package="pytest",
        requires=("pytest",),
        install="pip install pytest",
        devices=frozenset({"cpu"}),
    )
    variants = (Variant(name="plain"),)

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        say("converting")
        misbehave(str(job.variant.options.get("prepare", "")))
        (destination / "converted").write_text("done")

    def load(self, job: Job) -> Engine:
        print("loading", flush=True)
        misbehave(str(job.variant.options.get("load", job.variant.options.get(f"load_{job.variant.precision}", ""))))
        if job.variant.options.get("is_large") and not job.variant.options.get("by_layer"):
            raise MemoryError("all weights at once")
        if job.variant.prepares and (job.artifact_dir is None or not (job.artifact_dir / "converted").exists()):
            raise FileNotFoundError("nothing was converted")
        return CountingEngine(dict(job.variant.options))


def misbehave(how: str) -> None:
    """Do what an engine does on a bad day."""
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "abort":
        os.abort()
    elif how == "exit":
        os._exit(3)
    elif how == "hang":
        while True:
            time.sleep(60)
    elif how == "refuse":
        raise ValueError("cannot load this architecture")
    elif how == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20) * 16))
    elif how == "memory error":
        raise MemoryError("no room for the KV cache")
    elif how == "garbage":
        fd = int(sys.argv[2])
        os.write(fd, b"\x80\x00 not json\n")
    elif how == "child":
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path(os.environ["SCRIPTED_CHILD_FILE"]).write_text(str(child.pid))
    elif how in PLAYS:
        PLAYS[how]()
    elif how in SLEEPS_S:
        time.sleep(SLEEPS_S[how])
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


def meet_another() -> None:
    """Ends only where another process is in here at the same time."""
    place = Path(os.environ["SCRIPTED_MEETING"])
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < 2:
        time.sleep(0.01)


def map_a_file() -> None:
    file = Path(tempfile.gettempdir()) / f"scripted-{os.getpid()}"
    with file.open("w+b") as opened:
        file.unlink()
        opened.truncate(200 << 20)
        with mmap.mmap(opened.fileno(), 0) as mapped:
            sum(mapped[:: mmap.PAGESIZE])
            time.sleep(0.5)


def fork_a_child() -> None:
    held = b"1" * (200 << 20)
    if os.fork() == 0:
        time.sleep(1.0)
        os._exit(len(held) % 2)
    os.wait()


PLAYS = {"meet": meet_another, "map": map_a_file, "fork": fork_a_child}
