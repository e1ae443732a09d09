"""calibrate() ends with its answers: one Selection for each workload asked, in Python as on the command line."""

import json
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.measurement import Measurement
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from selector.planning.calibrate import calibrate
from selector.planning.calibration import Calibration
from selector.planning.plan import plan
from selector.screens.calibration.results import sentences, table
from tests.selector.answering import EAGER, HOST, SDPA, SPEC
from tests.selector.launches import failure, rounds

LONG = "pp9000:tg10:b1"
"""Longer than the positions of the model, 8192."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that seems to have weights; nothing reads them, since what is asked for was measured already."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((SPEC.folder / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(bytes(8))
    return folder


def calibrated(model: Path, cache: Cache, demand: Demand, *, failed: bool = False) -> Calibration:
    """A calibration whose every launch is in the cache: eager takes half the memory and twice the time of sdpa."""
    planned, key = plan(model, demand, host=HOST), identity(ModelSpec.read(model), HOST)
    common = {"cells": planned.cells, "model": str(model)}
    if failed:
        cache.add(failure(SDPA, key, HOST, model=str(model)), failure(EAGER, key, HOST, model=str(model)))
    else:
        cache.add(
            *rounds(SDPA, key, HOST, (1.0,), **common),
            *rounds(EAGER, key, HOST, (2.0,), memory=1 << 29, **common),
        )
    store = ArtifactStore(model.parent / "artifacts")
    return calibrate(model, demand, rounds=1, cache=cache, host=HOST, store=store)


def test_its_selections_are_those_of_select(model: Path, cache: Cache) -> None:
    demand = Demand.of(workloads=["chat", "batch"], backends=[SDPA, EAGER])
    calibration = calibrated(model, cache, demand)
    assert calibration.tally.fresh == frozenset()
    answers = [(s.source, s.candidate.label, s.workload.label) for s in calibration.selections]
    assert answers == [("measured", SDPA, "pp512:tg128:b1"), ("measured", SDPA, "pp512:tg128:b4")]
    assert calibration.unanswered == ()
    assert [line.partition(", ")[0] for line in sentences(calibration)[:2]] == [
        "transformers:sdpa answers pp512:tg128:b1 in 3.83 s",
        "transformers:sdpa answers pp512:tg128:b4 in 7.66 s",
    ]
    assert [line.split()[0] for line in table(calibration)] == ["candidate", SDPA, EAGER]


def test_they_are_for_the_objective_asked(model: Path, cache: Cache) -> None:
    demand = Demand.of(objective="memory", workload="chat", backends=[SDPA, EAGER])
    calibration = calibrated(model, cache, demand)
    assert [s.objective for s in calibration.selections] == [Objective.MEMORY]
    assert sentences(calibration)[0] == (
        "transformers:eager answers pp512:tg128:b1 with 0.5 GiB of memory, 2.00 times less than transformers:sdpa."
    )
    assert [line.split()[0] for line in table(calibration)] == ["candidate", EAGER, SDPA]
    ttft = calibrated(model, cache, Demand.of(objective="ttft", workload="chat", backends=[SDPA, EAGER]))
    assert sentences(ttft)[0].startswith(
        "transformers:sdpa gives the first token of pp512:tg128:b1 after 1.03 s, 2.00 ± "
    )


def test_a_workload_that_no_backend_may_run_is_said(model: Path, cache: Cache) -> None:
    calibration = calibrated(model, cache, Demand.of(workloads=["chat", LONG], backends=[SDPA, EAGER]))
    assert [s.workload.label for s in calibration.selections] == ["pp512:tg128:b1"]
    (unanswered,) = calibration.unanswered
    assert unanswered.use.label == LONG
    assert unanswered.reason.mend == f"see autobackend explain {model} --workload {LONG}"


def test_it_is_one_json_object(model: Path, cache: Cache) -> None:
    calibration = calibrated(model, cache, Demand.of(workloads=["chat", LONG], backends=[SDPA, EAGER]))
    told = json.loads(json.dumps(calibration.to_json()))
    assert list(told) == [
        "calibration_id", "ended", "seconds", "check_s", "check_share", "measured", "checked", "reused", "out",
        "reasons", "whole_refused", "sureness", "unmeasured", "cache", "selections", "unanswered", "outcomes",
        "served",
    ]  # fmt: skip
    assert (told["measured"], told["reused"], told["cache"]) == (0, 2, str(cache.location))
    assert [s["candidate"] for s in told["selections"]] == [SDPA]
    assert list(told["unanswered"]) == [LONG]
    assert told["unanswered"][LONG].startswith(f"no backend can run {model} here\n")


def test_without_a_measurement_there_is_no_answer(model: Path, cache: Cache) -> None:
    calibration = calibrated(model, cache, Demand.of(workload="chat", backends=[SDPA, EAGER]), failed=True)
    assert not any(isinstance(outcome, Measurement) for outcome in calibration.tally.outcomes)
    assert (calibration.selections, calibration.unanswered) == ((), ())


def test_a_variant_that_runs_only_on_request_answers_where_it_was_requested(model: Path, cache: Cache) -> None:
    """Nothing else was measured: without it the answer would be the first of the static order."""
    label = "transformers:compile"
    demand = Demand.of(workload="chat", backend=label)
    planned, key = plan(model, demand, host=HOST), identity(ModelSpec.read(model), HOST)
    cache.add(*rounds(label, key, HOST, (1.0,), cells=planned.cells, model=str(model)))
    store = ArtifactStore(model.parent / "artifacts")
    calibration = calibrate(model, demand, rounds=1, cache=cache, host=HOST, store=store)
    assert [(s.source, s.candidate.label) for s in calibration.selections] == [("forced", label)]
    assert sentences(calibration)[0] == f"{label} answers pp512:tg128:b1 in 3.83 s; nothing else was measured."
