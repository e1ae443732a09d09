"""The study of predictions: what is left out, what it is beside, and that its page is of what ships today."""

import itertools
import math
from pathlib import Path

import pytest

from benchmarks.foresight.foresight import digest
from benchmarks.foresight.groups import Group, LeftOut, groups_of, lossless
from benchmarks.foresight.policies import medians, random_regret, static_order
from benchmarks.foresight.report import report
from benchmarks.foresight.study import CLASSES, POLICIES, Case, Fold
from calibration.workload import Workload
from selector.predict.known.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]
CELL = Workload.parse("pp128:tg32:b1")


def group(host: str = "h", model: str = "m", cell: Workload = CELL, **seconds: float) -> Group:
    times = {label.replace("_", ":"): s for label, s in seconds.items()}
    return Group(host=host, model=model, workload=cell, seconds=times, mixture=False)


def test_the_page_is_of_what_ships() -> None:
    """If this fails, write it anew: make foresight"""
    assert f"({digest()})" in (ROOT / "results" / "foresight.md").read_text()


def test_the_groups_are_those_of_results() -> None:
    groups = groups_of(shipped())
    ships: dict[tuple[str, str], set[str]] = {}
    for timing in shipped():
        ships.setdefault((timing.host.identifier, timing.model), set()).add(timing.label)
    assert {(g.host, g.model) for g in groups} == {key for key, labels in ships.items() if len(labels) >= 4}
    assert all(len(g.seconds) >= 4 for g in groups)
    assert {g.workload.label for g in groups} >= {"pp128:tg32:b1", "pp1024:tg32:b4", "pp960:tg32:b4"}


@pytest.mark.parametrize("left_out", LeftOut)
def test_what_is_left_out_is_not_known(left_out: LeftOut) -> None:
    host, model = "a9a852565440", "shape:gpt2"
    known = [t for t in shipped() if left_out.keeps(t, host, model)]
    hosts, models = {t.host.identifier for t in known}, {t.model for t in known}
    assert (host in hosts) == (left_out is LeftOut.MODEL)
    assert (model in models) == (left_out is LeftOut.HOST)
    assert len(known) > 100


def test_regret_is_the_best_of_the_first_over_the_best() -> None:
    one = group(a_x=2.0, b_x=1.0, c_x=3.0)
    assert one.regret(["a:x", "c:x"]) == 2.0
    assert one.regret(["a:x", "b:x"]) == 1.0
    assert one.of(["a:x", "c:x"]).regret(["c:x"]) == 1.5


def test_random_is_the_mean_over_all_orders() -> None:
    one = group(a_x=1.0, b_x=2.0, c_x=3.5, d_x=7.0)
    for k in (1, 2, 3, 4):
        logs = [math.log(one.regret(order[:k])) for order in itertools.permutations(one.seconds)]
        assert random_regret(one, k) == pytest.approx(sum(logs) / len(logs))
    assert random_regret(one, 9) == pytest.approx(0.0)


def test_medians_go_by_the_nearest_groups_that_are_known() -> None:
    timings = [t for t in shipped() if t.model != "shape:gpt2"]
    same_host = group(host="a9a852565440", model="shape:smollm2-135m", a_x=1.0, b_x=2.0, c_x=4.0)
    same_model = group(host="0520274b31aa", model="shape:gpt2", a_x=4.0, b_x=2.0, c_x=1.0)
    asked = group(host="a9a852565440", model="shape:gpt2", a_x=1.0, b_x=1.0, c_x=1.0, d_x=1.0)
    assert medians(timings, [same_host, same_model], LeftOut.MODEL)(asked) == ["a:x", "b:x", "c:x", "d:x"]
    assert medians(shipped(), [same_host, same_model], LeftOut.HOST)(asked) == ["c:x", "b:x", "a:x", "d:x"]


def test_static_is_the_order_of_the_registry() -> None:
    seconds = {"openvino:fp16-pa": 1.0, "transformers:sdpa": 2.0, "llamacpp:f16": 3.0}
    asked = Group(host="h", model="m", workload=CELL, seconds=seconds, mixture=False)
    assert static_order(asked) == ["llamacpp:f16", "openvino:fp16-pa", "transformers:sdpa"]


def test_equal_precision_leaves_lossy_ones_out() -> None:
    assert lossless(["openvino:int8-pa", "openvino:fp16-pa", "llamacpp:q4_0"]) == ["openvino:fp16-pa"]


def test_the_report_judges_each_goal() -> None:
    def case(left_out: LeftOut, of: str, log_regret: float) -> Case:
        regrets = (log_regret, log_regret, 0.0, 0.0)
        one = group(a_x=1.0, b_x=2.0)
        return Case(
            group=one, left_out=left_out, of=of, log_regrets=dict.fromkeys(POLICIES, regrets), expected_regret=1.2
        )

    folds = [
        Fold(
            cases=tuple(case(left_out, of, math.log(1.05)) for of in CLASSES),
            inside=9,
            times=10,
            squares=0.4,
            fit_s=2.0,
        )
        for left_out in LeftOut
    ]
    page = report(folds, digest="0123", command="the command", speed={"first answer": 0.25})
    assert "First pick 1.050, goal 1.1: met; best of the first 3 1.000, goal 1.015: met." in page
    assert "First pick 1.050, goal 1.03: not met; best of the first 3 1.000, goal 1.005: met." in page
    assert "| host not known | 90.0% | 1.22 | 10 | held |" in page
    assert "| first answer | 250.0 ms |" in page
