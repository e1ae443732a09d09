"""The winners of a map are what `select` answers; the rest is told of them."""

from dataclasses import replace
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.errors import AutobackendError, IllegalBackend, NoLegalBackend, NotCalibrated
from calibration.measurement import FailureKind, Identity
from calibration.workload import Workload
from selector.answer import Source
from selector.context import Context
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.map.axes import Axes
from selector.map.cells import Barred, Won
from selector.map.legality import verdicts_of
from selector.map.winner_map import WinnerMap
from selector.map.winners import winners
from selector.rules.judge import judge
from selector.selection import choose
from tests.selector.answering import ARM, ARM_KEY, CT2, EAGER, HOST, KEY, MODEL, SDPA, SPEC
from tests.selector.launches import failure, measurement, rounds
from tests.selector.map.mapped import CELLS, two_regions

SMALL = Axes.parse("64,1024", "8,256", "1,4")
WIDE = Axes.parse("32:8192", "1:512", "1,4,64")


def mapped(cache: Cache, axes: Axes = SMALL, **demand: Any) -> WinnerMap:
    return winners(MODEL, axes, cache=cache, host=HOST, **demand)


@pytest.fixture
def measured(cache: Cache) -> Cache:
    cache.add(*two_regions())
    return cache


def test_the_winner_changes_with_prompt_and_output(measured: Cache) -> None:
    drawn = mapped(measured)
    won = {cell.workload.label: cell.label for cell in drawn.won}
    # pp64:tg8:b1: SDPA 0.138 + 7 x 0.022, CT2 0.069 + 7 x 0.044; pp1024:tg8:b1: 2.058 + 0.154, 1.029 + 0.308.
    assert won == {
        "pp64:tg8:b1": SDPA,
        "pp1024:tg8:b1": CT2,
        "pp64:tg256:b1": SDPA,
        "pp1024:tg256:b1": SDPA,
        "pp64:tg8:b4": CT2,
        "pp1024:tg8:b4": CT2,
        "pp64:tg256:b4": SDPA,
        "pp1024:tg256:b4": SDPA,
    }
    assert list(won) == [w.label for w in sorted(CELLS, key=lambda w: (w.batch, w.output_tokens, w.prompt_tokens))]
    assert (dict(drawn.wins), dict(drawn.letters)) == ({SDPA: 5, CT2: 3}, {SDPA: "A", CT2: "B"})
    assert (drawn.sources, drawn.launches, drawn.barred) == ({Source.MEASURED: 8}, 9, ())
    assert not any(cell.extrapolated for cell in drawn.won)


@pytest.mark.parametrize(
    "demand",
    [
        {},
        {"objective": "throughput"},
        {"objective": "ttft", "backends": ["transformers"]},
        {"ttft_s": 0.5},
        {"allow_lossy": True},
        {"max_kl": 0.1},
    ],
)
def test_every_cell_is_what_select_answers_for_its_workload(measured: Cache, demand: dict[str, Any]) -> None:
    """Also beyond the model's positions and beyond the memory, where select refuses."""
    measured.add(failure("onnxruntime:fp32", KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check"))
    context = Context()
    axes = Axes.parse("32:8192", "1,16,512", "1,64")
    drawn = winners(MODEL, axes, cache=measured, host=HOST, context=context, **demand)
    assert len(drawn.cells) == 9 * 3 * 2
    for workload, cell in drawn.cells.items():
        try:
            answer = choose(MODEL, cache=measured, host=HOST, workload=workload, context=context, **demand)
        except (NoLegalBackend, IllegalBackend):
            assert isinstance(cell, Barred)
            assert cell.reason.startswith("needs ")
        else:
            assert isinstance(cell, Won)
            assert (cell.label, cell.pick.tie, cell.extrapolated) == (
                answer.candidate.label,
                answer.tie,
                answer.extrapolated,
            )
            assert cell.pick.ranking == answer.ranking
    assert drawn.barred and any(cell.extrapolated for cell in drawn.won)


def test_a_few_judgements_serve_all_workloads() -> None:
    """On a host with little memory, where large workloads of this model are refused one variant after another."""
    (device,) = HOST.devices
    poor = replace(HOST, devices=(replace(device, free_bytes=16 << 30),))
    asked: list[Workload] = []

    def judged(workload: Workload) -> Any:
        asked.append(workload)
        return judge(SPEC, poor, Demand(workloads=(workload,)))

    verdicts = verdicts_of(WIDE, judged)
    assert len(verdicts) == 270 and len(set(asked)) < 150
    legal = set()
    for workload, found in verdicts.items():
        exact = judge(SPEC, poor, Demand(workloads=(workload,)))
        assert [(v.legal, v.left_out) for v in found] == [(v.legal, v.left_out) for v in exact]
        legal.add(sum(v.legal for v in found))
    assert len(legal) > 3


def test_what_always_taking_one_candidate_costs(measured: Cache) -> None:
    """Two workloads: CT2 takes 0.377 and 1.337 s, SDPA 0.292 and 2.212 s."""
    drawn = mapped(measured, Axes.parse("64,1024", "8", "1"))
    ct2, sdpa = 0.377 / 0.292, 2.212 / 1.337
    for label, worst in ((CT2, ct2), (SDPA, sdpa)):
        always = drawn.always(label)
        assert always is not None
        assert [always.geomean, always.worst, always.unable] == pytest.approx([worst**0.5, worst, 0])
    assert drawn.always("openvino:fp16-pa") is None
    assert drawn.steadiest == (CT2, drawn.always(CT2))


def test_a_rival_that_launches_cannot_tell_apart_has_a_letter_though_it_never_wins(cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (1.0, 1.0)), *rounds(SDPA, KEY, HOST, (1.01, 1.01)))
    drawn = mapped(cache, Axes.parse("64", "32", "1"))
    (cell,) = drawn.won
    assert (cell.label, cell.rival, dict(drawn.wins), dict(drawn.letters)) == (
        CT2,
        SDPA,
        {CT2: 1, SDPA: 0},
        {CT2: "A", SDPA: "B"},
    )


def test_nothing_known_is_an_error_with_the_command_that_measures_its_corners(cache: Cache) -> None:
    with pytest.raises(NotCalibrated) as error:
        winners(MODEL, SMALL, cache=cache, host=ARM, allow_lossy=True)
    assert (error.value.message, error.value.mend) == (
        f"{MODEL} was never measured on this host: a map of the static order says nothing",
        f"measure it: autobackend calibrate {MODEL} --workload pp64:tg8:b1 --workload pp1024:tg256:b4 --allow-lossy",
    )


def test_with_nothing_measured_it_is_predicted_and_says_so(cache: Cache) -> None:
    drawn = mapped(cache, WIDE, allow_lossy=True, ttft_s=3.0)
    assert drawn.sources == {Source.PREDICTED: len(drawn.won)}
    for cell in drawn.won[::20]:
        answer = choose(MODEL, cache=cache, host=HOST, workload=cell.workload, allow_lossy=True, ttft_s=3.0)
        assert (cell.label, cell.expected) == (answer.candidate.label, answer.expected)
        assert cell.expected is not None
        assert (cell.e2e_s, cell.missed) == (cell.expected.e2e_s, (cell.expected.chance or 0.0) < 0.5)
        assert not cell.extrapolated
    unsure = [cell for cell in drawn.won if cell.rival]
    assert {cell.missed for cell in drawn.won} == {True, False}
    assert 0 < len(unsure) < len(drawn.won)
    for cell in unsure:
        chances = {row.candidate: row.p_best for row in cell.expectations}
        assert cell.expected is not None
        assert cell.expected.p_best < 0.5
        assert not cell.missed
        del chances[cell.label]
        assert chances[cell.rival] == max(chances.values())
    where = "on the whole model with today's versions on this host"
    assert [sentence.partition(".")[0] for sentence in drawn.warnings()] == [
        f"{len(drawn.won)} of {len(drawn.cells)} answers are predicted: not measured {where}"
    ]


@pytest.mark.parametrize(("host", "key"), [(HOST, KEY), (ARM, ARM_KEY)])
def test_what_stands_on_a_few_layers_says_so(cache: Cache, host: HostSpec, key: Identity) -> None:
    """On a host of which nothing is shipped, too, the launches on layers let one expect the whole model's times."""
    shallow = replace(key, cut="6/30")
    cache.add(*rounds(SDPA, shallow, host, (1.0, 1.0)), *rounds(EAGER, shallow, host, (4.0, 4.0)))
    drawn = winners(MODEL, SMALL, cache=cache, host=host, backends=[SDPA, EAGER])
    assert (drawn.sources, dict(drawn.wins)) == ({Source.LAYERS: 8}, {SDPA: 8})
    answers = [choose(MODEL, cache=cache, host=host, workload=w, backends=[SDPA, EAGER]) for w in drawn.cells]
    assert [cell.e2e_s for cell in drawn.won] == [a.expected and a.expected.e2e_s for a in answers]
    (sentence,) = drawn.warnings()
    assert sentence.startswith("8 of 8 answers are from a few layers: not measured on the whole model with today's")


def test_what_always_taking_one_candidate_is_predicted_to_cost(cache: Cache) -> None:
    axes = Axes.parse("64,1024", "8", "1")
    drawn = mapped(cache, axes, backends=[CT2, SDPA])
    answers = [choose(MODEL, cache=cache, host=HOST, workload=w, backends=[CT2, SDPA]) for w in drawn.cells]
    ratios = [
        row.e2e_s / a.expected.e2e_s
        for a in answers
        if a.prediction and a.expected
        for row in a.prediction.predicted
        if row.candidate == CT2
    ]
    always = drawn.always(CT2)
    assert always is not None
    assert always.worst == pytest.approx(max(1.0, *ratios))
    assert len(ratios) == 2
    assert always.unable == 0


def test_nothing_that_runs_is_the_error_of_select(measured: Cache) -> None:
    axes = Axes.parse("9000", "8", "1")
    with pytest.raises(NoLegalBackend):
        mapped(measured, axes)
    with pytest.raises(IllegalBackend):
        mapped(measured, SMALL, backend="turbomind")
    with pytest.raises(AutobackendError, match="unknown backend 'foo'"):
        mapped(measured, SMALL, backend="foo")


def test_times_of_other_versions_are_said_and_extrapolations_counted(cache: Cache) -> None:
    cache.add(measurement(SDPA, KEY, HOST, environment={"torch": "1.0"}))
    drawn = mapped(cache, Axes.parse("64:1024", "32", "1"))
    again = f"Measure its corners: autobackend calibrate {MODEL} --workload pp64:tg32:b1 --workload pp1024:tg32:b1"
    assert list(drawn.warnings()) == [
        f"5 of 5 answers are stale: not measured on the whole model with today's versions on this host. {again}"
    ]
    assert list(drawn.notes()) == [f"1 of 5 answers are extrapolated from what was measured. {again}"]


def test_the_json_tells_every_cell(measured: Cache) -> None:
    told = mapped(measured, Axes.parse("64", "8,9000", "1"), ttft_s=0.2).to_json()
    assert {key: told[key] for key in told if key != "cells"} == {
        "model": MODEL,
        "device": HOST.device.name,
        "objective": "latency",
        "targets": {"ttft_s": 0.2, "tpot_s": None},
        "prompts": [64],
        "outputs": [8, 9000],
        "batches": [1],
        "candidates": [
            {
                "letter": "A",
                "candidate": SDPA,
                "wins": 1,
                "always_geomean": 1.0,
                "always_worst": 1.0,
                "unable": 1,
            }
        ],
    }
    first, second = told["cells"]
    assert {key: first[key] for key in ("workload", "candidate", "source", "tie", "extrapolated")} == {
        "workload": "pp64:tg8:b1",
        "candidate": SDPA,
        "source": "measured",
        "tie": [],
        "extrapolated": False,
    }
    assert [first[key] for key in ("ttft_s", "tpot_s", "e2e_s", "output_tps")] == pytest.approx(
        [0.138, 0.022, 0.292, 8 / 0.292]
    )
    assert 0.9 < first["chance"] < 1.0
    assert (first["cost_per_million_output"], first["cost_per_million_total"]) == (None, None)
    assert (second["workload"], second["candidate"]) == ("pp64:tg9000:b1", None)
