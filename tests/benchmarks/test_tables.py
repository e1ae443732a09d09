"""What the benchmark programs print, from figures that are given."""

from pathlib import Path
from typing import Any

from benchmarks.engines.real_model.real_model import Reply, until_end
from benchmarks.engines.real_model.real_model import table as reply_table
from benchmarks.measuring.fidelity.fidelity import chosen
from benchmarks.measuring.fidelity.fidelity import table as fidelity_table
from benchmarks.study.regret import Case
from benchmarks.study.report import report
from calibration.backend import Variant
from calibration.measurement import Candidate
from calibration.supervision.launch_spec import LaunchSpec


def launch_spec(backend: str, variant: Variant) -> LaunchSpec:
    candidate = Candidate(backend=backend, variant=variant.name)
    return LaunchSpec(candidate=candidate, variant=variant, python=Path("python"), environment={})


def test_fidelity_judges_each_figure_by_three_per_cent() -> None:
    row = {"candidate": "a:x", "source": "loop by hand", "cell": "pp64:tg16:b1"}
    near = {"ttft_ratio": 1.03, "ttft_ratio_spread": 0.004, "tpot_ratio": 0.97, "tpot_ratio_spread": 0.01}
    failed = {"candidate": "b:y", "failed": "no such file"}
    rows: list[dict[str, Any]] = [{**row, **near}, {**row, **near, "tpot_ratio": 1.031}, failed]
    assert fidelity_table(rows) == [
        "candidate  beside        cell          TTFT           TPOT           within 3%",
        "a:x        loop by hand  pp64:tg16:b1  1.030 ± 0.004  0.970 ± 0.010  yes",
        "a:x        loop by hand  pp64:tg16:b1  1.030 ± 0.004  1.031 ± 0.010  no: TPOT",
        "b:y        failed: no such file",
    ]


def test_fidelity_takes_the_first_exact_variant_of_a_backend_and_each_scheduler() -> None:
    candidates = [
        launch_spec("openvino", Variant(name="int8", lossy=True, options={"ATTENTION_BACKEND": "PA"})),
        launch_spec("openvino", Variant(name="fp16-pa", options={"ATTENTION_BACKEND": "PA"})),
        launch_spec("openvino", Variant(name="fp16-sdpa", options={"ATTENTION_BACKEND": "SDPA"})),
        launch_spec("transformers", Variant(name="sdpa")),
        launch_spec("transformers", Variant(name="eager")),
        launch_spec("turbomind", Variant(name="turbomind")),
    ]
    assert [e.label for e in chosen(candidates)] == ["openvino:fp16-pa", "openvino:fp16-sdpa", "transformers:sdpa"]


def test_replies_are_aligned() -> None:
    replies = [
        Reply(candidate="llamacpp:gguf", verdict="right", kl="0.0012", top1="98%", tokens_s="81.4", answer="Paris."),
        Reply(candidate="a:x", verdict="crashed", answer="killed by SIGABRT"),
    ]
    assert reply_table(replies) == [
        "engine         output       KL  top-1  tok/s  answer",
        "llamacpp:gguf  right    0.0012    98%   81.4  Paris.",
        "a:x            crashed                        killed by SIGABRT",
    ]


def test_answer_ends_before_the_first_ending_token() -> None:
    assert until_end([5, 6, 2, 7, 2], [2, None]) == [5, 6]
    assert until_end([5, 6], [2]) == [5, 6]
    assert until_end([2, 6], [2]) == []


LAUNCH = {
    "record": "measurement",
    "cells": [{"samples": [{"dirty": False}, {"dirty": True}]}],
}
FAILURE = {
    "record": "failure",
    "candidate": {"backend": "b", "variant": "z"},
    "kind": "crashed",
    "round": 1,
    "stage": "load",
    "message": "killed by SIGABRT\nmore",
}
TOLD = {
    "date": "2026-11-24",
    "host": "some CPU, 2 cores used",
    "command": "python -m benchmarks.study gpt2",
    "workloads": ["pp8:tg8:b1"],
    "missing": ["gpt2 c:x pass 2: the budget was spent"],
    "models": {
        "gpt2": {
            "launches": [LAUNCH, FAILURE],
            "left_out": {"pp8:tg8:b1": {"d:x": 7.25}},
            "not_measured_by_the_calibration": ["e:x", "e:y"],
            "environments": {"a:x": {"a": "1.0", "threads": "2"}},
        }
    },
}


def test_study_says_the_goal_the_costs_and_what_is_missing() -> None:
    case = Case(
        model="gpt2",
        workload="pp8:tg8:b1",
        times={"a:x": {1: 1.0, 2: 1.0}, "b:x": {1: 1.1, 2: 1.1}},
        pick="b:x",
        left_out={"d:x": 7.25},
    )
    page = report(TOLD, {"equal precision": [case]}).splitlines()
    assert [line for line in page if line.startswith(("| pick over", "| gpt2", "| b:x", "| d:x", "- "))] == [
        "| pick over best of both passes | 1.100 | 1.100 | 1 | not met |",
        "| gpt2 | pp8:tg8:b1 | a:x (1.000 s) | b:x | 1.100 | 1.100 |",
        "| b:x | 1.10 | 1.10 | 1.00 | 1 of 1 |  |",
        "| d:x |  |  |  | 0 of 1 | 1 (at least 7.2) |",
        "- gpt2 pp8:tg8:b1: left out, predicted times slower than the best of the class: d:x 7.2",
        "- gpt2: legal here, but without a measurement in the calibration: e:x, e:y",
        "- gpt2: b:z crashed in pass 1 (load): killed by SIGABRT",
        "- gpt2 c:x pass 2: the budget was spent",
    ]
    assert "Other programs disturbed 1 of 2 samples." in page
    assert page[-1] == "| a | a 1.0, threads 2 |"
