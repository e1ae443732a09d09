"""Loads in a plan and in a calibration: who takes them, in which order, and the answers that follow."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.errors import NoLegalBackend, UsageError
from calibration.load.load import Load
from calibration.load.sample import End, NoPoint, RequestTargets
from calibration.load.trace import Trace
from calibration.measurement import FailureKind
from calibration.served.place import Hold
from selector.demand.demand import Demand
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from selector.planning.calibrate import calibrate
from selector.planning.calibration import Calibration
from selector.planning.plan import plan
from selector.planning.room import room_for
from selector.planning.served import hold_of, in_order, measuring_of, value_of, void_where_cut
from selector.screens.calibration.results import sentences, served_tables, table
from selector.selection import choose
from tests.calibration.points import C4, point, replayed, trace_of, write_trace
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, SPEC
from tests.selector.launches import failure, rounds, served, unserved

LOAD = "pp64:tg32:c8"
LEVELS = {"pp64:tg32:c1": 30.0, "pp64:tg32:c16": 200.0}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that seems to have weights; nothing reads them, since what is asked for was measured already."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((SPEC.folder / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(bytes(8))
    return folder


def test_a_plan_for_loads_alone_times_no_cells_and_its_memory_holds_them() -> None:
    planned = plan(MODEL, workload=LOAD, host=HOST)
    assert (planned.cells, planned.workloads) == ((), ())
    assert SDPA in {candidate.label for candidate in planned.candidates}
    both = plan(MODEL, workloads=["chat", LOAD], host=HOST)
    assert both.workloads == plan(MODEL, workload="chat", host=HOST).workloads
    assert both.cells == plan(MODEL, workload="chat", host=HOST).cells
    assert plan(MODEL, workload="pp9000:tg10:c1", host=HOST).candidates == ()


def test_a_load_longer_than_the_model_is_refused(cache: Cache) -> None:
    with pytest.raises(NoLegalBackend, match=r"found 9015 \(pp9000:tg15:b8\)|found 9,015 \(pp9000:tg15:b8\)"):
        choose(MODEL, workload="pp9000:tg10:c8", cache=cache, host=HOST)


def test_a_server_holds_the_longest_and_the_most() -> None:
    loads = tuple(map(Load.parse, ("pp64:tg32:c2", "pp500:tg20-40:c4", "pp10:tg10:r3")))
    assert hold_of(loads, 2) == Hold(slots=8, context_tokens=540, threads=2)


def test_the_best_for_the_nearest_batch_comes_first_and_who_fails_is_left_out(cache: Cache) -> None:
    cache.add(
        *rounds(SDPA, KEY, HOST, (1.0,)),
        *rounds(CT2, KEY, HOST, (0.5,)),
        failure(EAGER, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check"),
    )
    planned = plan(MODEL, workload=LOAD, backends=[EAGER, SDPA, CT2, "transformers:sdpa-fp32"], host=HOST)
    order = [spec.label for spec in in_order(planned, Load.parse(LOAD), cache)]
    assert order == [CT2, SDPA, "transformers:sdpa-fp32"]
    assert EAGER in [spec.label for spec in in_order(planned, Load.parse(LOAD), cache, again=True)]


def test_who_misses_the_targets_is_worse_than_who_meets_them() -> None:
    slow, quick = point(C4, tps=40.0, ttft_s=0.02), point(C4, tps=400.0, ttft_s=0.05)
    asked: dict[str, Any] = {"workloads": (C4,), "objective": "throughput"}
    free, tight = Demand.of(**asked), Demand.of(**asked, ttft_s=0.03)
    assert value_of(free, quick, 0) < value_of(free, slow, 0)
    assert value_of(tight, slow, 0) < value_of(tight, quick, 0)
    worse = point(C4, tps=400.0, ttft_s=0.06)
    assert value_of(tight, quick, 0) < value_of(tight, worse, 0), "of those that miss, the nearer is better"


def measured(model: Path, cache: Cache, demand: Demand, **more: Any) -> Calibration:
    """A calibration whose every launch is in the cache: as a server eager is twice as fast as sdpa."""
    planned, key = plan(model, demand, host=HOST), identity(ModelSpec.read(model), HOST)
    common: dict[str, Any] = {"model": str(model)}
    if planned.cells:
        cache.add(
            *rounds(SDPA, key, HOST, (1.0,), cells=planned.cells, **common),
            *rounds(EAGER, key, HOST, (2.0,), cells=planned.cells, **common),
        )
    cache.add(
        served(SDPA, key, HOST, {LOAD: 80.0}, **common),
        served(EAGER, key, HOST, {LOAD: 160.0}, **common),
        served(EAGER, key, HOST, LEVELS, slots=16, round_=2, **common),
    )
    store = ArtifactStore(model.parent / "artifacts")
    return calibrate(model, demand, rounds=1, cache=cache, host=HOST, store=store, **more)


def test_a_calibration_answers_batches_and_loads_each_by_its_own(model: Path, cache: Cache) -> None:
    demand = Demand.of(workloads=["chat", LOAD], objective="throughput", backends=[SDPA, EAGER])
    calibration = measured(model, cache, demand)
    assert calibration.served is not None
    assert (calibration.tally.fresh, calibration.served.fresh) == (frozenset(), frozenset())
    answers = [(s.candidate.label, s.use.label, bool(s.served)) for s in calibration.selections]
    assert answers == [(SDPA, "pp512:tg128:b1", False), (EAGER, LOAD, True)]
    assert [line.split()[0] for line in table(calibration)] == ["candidate", SDPA, EAGER]
    assert [line.split()[0] for line in served_tables(calibration)] == [f"{LOAD},", "candidate", EAGER, SDPA]
    said = sentences(calibration)
    assert said[1].startswith(f"{EAGER} generates 160 tok/s of {LOAD} as served with 2 threads, 2.00 ± ")
    assert said[2].startswith("sure: ") and said[2].endswith(f" that {EAGER} is within 3 % of the best as served")
    assert "Nothing under load was missing or stale, so nothing was served anew (--again measures it all)." in said


def test_a_calibration_for_loads_alone_times_no_batch(model: Path, cache: Cache) -> None:
    calibration = measured(model, cache, Demand.of(workload=LOAD, backends=[SDPA, EAGER]))
    assert (calibration.tally.outcomes, table(calibration)) == ((), [])
    assert [s.candidate.label for s in calibration.selections] == [EAGER]
    told = json.loads(json.dumps(calibration.to_json()))
    assert told["outcomes"] == []
    assert (told["served"]["loads"], told["served"]["traces"], told["served"]["picks"]) == ([LOAD], [], [EAGER])
    assert told["served"]["sureness"] > 0.9
    assert {record["record"] for record in told["served"]["outcomes"]} == {"served"}
    assert list(told["served"]) == [
        "calibration_id", "loads", "traces", "ended", "sureness", "picks", "seconds", "check_s", "measured", "out",
        "unmeasured", "outcomes",
    ]  # fmt: skip


def test_what_cannot_be_served_is_refused_before_anything_starts(model: Path, cache: Cache) -> None:
    demand = Demand.of(workload=LOAD, backends=[SDPA, EAGER])
    with pytest.raises(UsageError, match="a load is served with a model's own weights, or of a shape"):
        measured(model, cache, demand, random_weights=True)
    trace = replace(Load.parse("pp1-9:tg1-9:r2"), trace="0a1b2c3d")
    with pytest.raises(UsageError) as error:
        measured(model, cache, replace(demand, workloads=(trace,)))
    assert error.value.message == (
        "the requests of pp1-9:tg1-9:r2:t0a1b2c3d are not kept here: no launch was sent all of them"
    )
    assert error.value.mend == "name the trace's file: --trace FILE"


def test_a_server_has_the_room_and_the_threads_that_were_measured(cache: Cache) -> None:
    cache.add(served(SDPA, KEY, HOST, {LOAD: 80.0}, threads=1))
    chosen = choose(MODEL, workload=LOAD, cache=cache, host=HOST)
    assert (room_for(chosen).slots, chosen.threads) == (8, 1)
    unmeasured = choose(MODEL, workload="pp64:tg32:c3", cache=cache, host=HOST)
    assert (room_for(unmeasured).slots, unmeasured.threads) == (3, 2)
    one = choose(MODEL, workload="pp64:tg32:c1", cache=cache, host=HOST)
    assert room_for(one).slots == 1, "a load says how many there are"


def test_who_answered_wrong_as_served_is_left_out_with_the_reason(model: Path, cache: Cache) -> None:
    demand, key = Demand.of(workload=LOAD, backends=[SDPA, EAGER]), identity(ModelSpec.read(model), HOST)
    common: dict[str, Any] = {"model": str(model)}
    message = "token 7 after prompt 2 is 9, which ..."
    cache.add(
        served(EAGER, key, HOST, {LOAD: 160.0}, **common),
        served(EAGER, key, HOST, LEVELS, slots=16, round_=2, **common),
        unserved(SDPA, key, HOST, kind=FailureKind.WRONG_OUTPUT, message=message, **common),
    )
    planned = plan(model, demand, host=HOST)
    assert [spec.label for spec in in_order(planned, Load.parse(LOAD), cache)] == [EAGER]
    assert {spec.label for spec in in_order(planned, Load.parse(LOAD), cache, again=True)} == {SDPA, EAGER}
    store = ArtifactStore(model.parent / "artifacts")
    calibration = calibrate(model, demand, rounds=1, cache=cache, host=HOST, store=store)
    assert calibration.served is not None
    assert calibration.served.out == {SDPA: f"wrong output as served, as an earlier calibration found: {message}"}
    assert [s.candidate.label for s in calibration.selections] == [EAGER]


TRACE = trace_of(20)


@pytest.mark.parametrize("by_label", [False, True])
def test_a_trace_is_calibrated_by_its_file_or_by_what_its_launches_have_kept(
    by_label: bool, model: Path, cache: Cache, tmp_path: Path
) -> None:
    """Every launch is in the cache already."""
    key = identity(ModelSpec.read(model), HOST)
    for label, tpot_s in ((SDPA, 0.08), (EAGER, 0.02)):
        launch = served(label, key, HOST, {LOAD: 80.0}, model=str(model))
        cache.add(replace(launch, points=(replayed(TRACE, tpot_s=tpot_s),)))
    file = write_trace(tmp_path / "monday.jsonl", TRACE)
    asked: dict[str, Any] = {"workload": TRACE.load.label} if by_label else {"trace": file}
    store = ArtifactStore(tmp_path / "artifacts")
    calibration = calibrate(model, backends=[SDPA, EAGER], rounds=1, cache=cache, host=HOST, store=store, **asked)
    assert calibration.served is not None
    assert calibration.served.fresh == frozenset()
    title = f"trace:{'requests' if by_label else 'monday'} 20 requests in 9.5 s"
    assert [load.title for load in calibration.served.loads] == [title]
    told = calibration.to_json()["served"]
    assert [trace["hash"] for trace in told["traces"]] == [TRACE.digest]
    assert [s.candidate.label for s in calibration.selections] == [EAGER]
    if not by_label:
        assert served_tables(calibration)[0] == f"{title}, as served"
        assert sentences(calibration)[0].startswith(f"{EAGER} answers {title} in ")


@pytest.mark.parametrize(
    ("trace", "left_s", "budget_s"),
    [(None, None, 600.0), (None, 50.0, 50.0), (TRACE, None, 609.5), (TRACE, 30.0, 30.0), (TRACE, 700.0, 609.5)],
)
def test_a_load_is_measured_within_what_is_left_and_a_trace_beyond_its_end(
    trace: Trace | None, left_s: float | None, budget_s: float
) -> None:
    measuring = measuring_of(Demand(ttft_s=0.5), trace, left_s)
    assert (measuring.budget_s, measuring.left_s) == (budget_s, left_s)
    assert measuring.targets == RequestTargets(ttft_s=0.5)


def test_a_trace_that_the_budget_ended_is_void() -> None:
    cut, load = replayed(TRACE, end=End.BUDGET), point(C4, tps=100.0, end=End.BUDGET)
    assert void_where_cut(cut) == replace(cut, void="the budget ended before the trace did")
    assert void_where_cut(load) is load, "a closed loop is the same at every moment"
    busy = replace(cut, void="others were busy")
    assert void_where_cut(busy) is busy
    nothing = NoPoint(load=TRACE.load, reason="gone")
    assert void_where_cut(nothing) is nothing
