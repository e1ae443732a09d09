"""How fast `select` answers."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from calibration.workload import Workload
from selector import Axes, WinnerMap, select, winners

ROOT = Path(__file__).resolve().parents[2]


def workloads() -> Iterator[Workload]:
    """Another one each time for 80,000 times, all inside the measured cells."""
    for number in count():
        yield Workload(prompt_tokens=64 + number % 433, output_tokens=16 + number % 47, batch=1 + number % 4)


@pytest.mark.parametrize("rows", [100_000, 1_000_000])
def test_select_another_workload_each_time(
    benchmark: Any, model: Path, cache_of: Callable[[int], Path], rows: int
) -> None:
    cache, asked = cache_of(rows), workloads()
    benchmark.extra_info |= {"what": f"select(), another workload each time, {rows:,} rows", "target_s": 0.0005}

    def answer() -> None:
        select(str(model), workload=next(asked), cache=cache)

    answer()
    assert select(str(model), workload=next(asked), cache=cache).source == "measured"
    benchmark(answer)


def test_select_unchanged(benchmark: Any, model: Path, cache_of: Callable[[int], Path]) -> None:
    cache = cache_of(100_000)
    benchmark.extra_info |= {"what": "select(), nothing changed", "target_s": 0.0001}
    select(str(model), workload="chat", cache=cache)
    benchmark(lambda: select(str(model), workload="chat", cache=cache))


def test_a_map(benchmark: Any, model: Path, cache_of: Callable[[int], Path]) -> None:
    cache, axes = cache_of(100_000), Axes.parse()
    benchmark.extra_info |= {"what": "winners(), a map of 168 workloads, 100,000 rows", "target_s": 1.0}

    def draw() -> WinnerMap:
        return winners(str(model), axes, cache=cache)

    assert len(draw().cells) == 168
    benchmark(draw)


@pytest.mark.benchmark(group="fresh process")
def test_select_in_a_fresh_process(benchmark: Any, model: Path, cache_of: Callable[[int], Path]) -> None:
    code = "import sys; from selector import select; print(select(sys.argv[1], cache=sys.argv[2]).candidate.label)"
    command = [sys.executable, "-c", code, str(model), str(cache_of(100_000).absolute())]
    benchmark.extra_info |= {"what": "select() in a fresh process, all in", "target_s": 0.5}
    benchmark.pedantic(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True), rounds=15)


@pytest.mark.benchmark(group="fresh process")
def test_select_in_a_fresh_process_with_nothing_measured(benchmark: Any, tmp_path: Path) -> None:
    """An 8 B, which no calibration that ships has timed."""
    command = [
        sys.executable,
        "-m",
        "autobackend",
        "select",
        "shape:llama-3.1-8b",
        "--cache",
        str(tmp_path / "none.db"),
    ]
    benchmark.extra_info |= {
        "what": "autobackend select in a fresh process, nothing measured: predicted",
        "target_s": 0.5,
    }

    def answer() -> str:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr

    assert " is predicted to take " in answer()
    benchmark.pedantic(answer, rounds=15)


@pytest.mark.benchmark(group="fresh process")
def test_autoget_backend_in_a_fresh_process(benchmark: Any, model: Path, lmdeploy_python: Path) -> None:
    code = "import sys; from lmdeploy.archs import autoget_backend; print(autoget_backend(sys.argv[1]))"
    command = [str(lmdeploy_python), "-c", code, str(model)]
    benchmark.extra_info |= {"what": "LMDeploy's autoget_backend in a fresh process"}
    benchmark.pedantic(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True), rounds=5)
