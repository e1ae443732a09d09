"""Writers that add launches to one cache at the same time, as calibrations of many hosts do: a commit for each row."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Final

from calibration.cache.cache import Cache
from calibration.measurement import Agreement, Candidate, Cell, Identity, Measurement, OutputVerdict, Sample
from calibration.workload import grid

ROOT: Final = Path(__file__).resolve().parents[2]

LAUNCH: Final = Measurement(
    run_id="0" * 32,
    calibration_id="c" * 32,
    round=1,
    candidate=Candidate(backend="transformers", variant="sdpa"),
    identity=Identity(
        architecture="Qwen2ForCausalLM",
        quant="none",
        device="AMD EPYC 7763 (zen3), 2 cores",
        fingerprint="0123456789ab",
        dtype="bfloat16",
        device_count=1,
        host="a1b2c3",
        config="89abcdef01234567",
    ),
    model="some model",
    environment={"torch": "2.13.0", "transformers": "5.23.0", "threads": "2"},
    policy="1",
    started_at=1_790_000_000.0,
    cells=tuple(Cell(workload=w, samples=(Sample(ttft_s=0.25, tpot_s=0.0625),) * 3) for w in grid()),
    load_s=2.5,
    peak_memory_bytes=1 << 30,
    agreement=Agreement(verdict=OutputVerdict.RIGHT, kl=1e-9, top1=1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the writers left."""

    writers: int
    rows: int
    """That they were told to have been written, together."""
    lost: int
    """Of them, those that are not in the cache."""
    doubled: int
    """Rows in the cache beyond those."""
    seconds: float
    """From the moment when all were connected until the last was done."""

    @property
    def per_second(self) -> float:
        return self.rows / self.seconds


def write_together(url: str, *, writers: int, rows: int, processes: int) -> Written:
    """Let `writers`, spread over processes, each with connections of its own, write so many rows each.

    Raises:
        RuntimeError: a writer failed; with what it said.
    """
    Cache.open(url, fleet="").close()  # makes the tables
    with ExitStack() as stack:
        shares = [writers // processes + (number < writers % processes) for number in range(processes)]
        firsts = [sum(shares[:number]) for number in range(processes)]
        started = [stack.enter_context(_process(url, f, s, rows)) for f, s in zip(firsts, shares, strict=True)]
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(process.communicate()[1])
        began = time.perf_counter()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate() for process in started]
        seconds = time.perf_counter() - began
    if failed := [said for process, (_, said) in zip(started, ends, strict=True) if process.returncode]:
        raise RuntimeError("\n".join(failed))
    told = {line for out, _ in ends for line in out.split()}
    with Cache.open(url, fleet="") as cache:
        kept = [outcome.run_id for outcome in cache.all(calibration_id=LAUNCH.calibration_id)]
    return Written(
        writers=writers,
        rows=len(told),
        lost=len(told - set(kept)),
        doubled=len(kept) - len(told & set(kept)),
        seconds=seconds,
    )


def run_id(writer: int, number: int) -> str:
    return f"{writer:016x}{number:016x}"


@contextmanager
def _process(url: str, first: int, writers: int, rows: int) -> "Iterator[subprocess.Popen[str]]":
    # The URL by stdin: everybody on the machine may read a program's words.
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.shared.writers", str(first), str(writers), str(rows)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(f"{url}\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def _write(cache: Cache, writer: int, rows: int, told: list[str], failed: list[Exception]) -> None:
    try:
        for number in range(rows):
            launch = replace(LAUNCH, run_id=run_id(writer, number), started_at=LAUNCH.started_at + number)
            if cache.add(launch) == 1:
                told.append(launch.run_id)
    except Exception as error:  # noqa: BLE001  it is raised again in the main thread
        failed.append(error)


def main() -> None:
    first, writers, rows = map(int, sys.argv[1:])
    url = sys.stdin.readline().strip()
    told, failed = list[str](), list[Exception]()
    caches = [Cache.open(url, fleet="") for _ in range(writers)]
    print("ready", flush=True)
    sys.stdin.readline()
    threads = [
        Thread(target=_write, args=(cache, first + place, rows, told, failed)) for place, cache in enumerate(caches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cache in caches:
        cache.close()
    if failed:
        raise failed[0]
    print("\n".join(told))


if __name__ == "__main__":
    main()
