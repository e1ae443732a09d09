"""How fast `explain` answers: here, for a machine that one does not hold, and for all of the library."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from selector import Demand, explain, what_if
from selector.machines.survey import survey

ROOT = Path(__file__).resolve().parents[2]
MODEL = "shape:qwen3-8b"


def test_explain_again(benchmark: Any) -> None:
    benchmark.extra_info |= {"what": "explain(), once more", "target_s": 0.05}
    explain(MODEL)
    benchmark(lambda: explain(MODEL))


def test_explain_another_machine_again(benchmark: Any) -> None:
    benchmark.extra_info |= {
        "what": "what_if() and explain() for a machine of the library, once more",
        "target_s": 0.05,
    }
    explain(MODEL, host=what_if("host:h100-sxm-80gb"))
    benchmark(lambda: explain(MODEL, host=what_if("host:h100-sxm-80gb")))


def test_survey_again(benchmark: Any) -> None:
    benchmark.extra_info |= {"what": "survey() of all machines of the library, once more"}
    survey(MODEL, Demand())
    benchmark(lambda: survey(MODEL, Demand()))


@pytest.mark.benchmark(group="fresh process")
@pytest.mark.parametrize("words", [(), ("--host", "host:h100-sxm-80gb"), ("--all-hosts",)], ids=["here", "host", "all"])
def test_explain_in_a_fresh_process(benchmark: Any, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "autobackend", "explain", MODEL, *words]
    what = " ".join(["autobackend explain", *words, "in a fresh process, all in"])
    benchmark.extra_info |= {"what": what, "target_s": 0.5}
    benchmark.pedantic(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True), rounds=15)
