"""What an upgrade made stale of what was measured under load."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration.cache.cache import Cache
from selector import context
from selector.cli import main
from selector.screens.check import loads, loads_sentence
from selector.upkeep.served import stale_served
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, with_versions
from tests.selector.launches import LOSSY, served, unserved

LOAD = "pp64:tg32:c8"
OLD = with_versions(transformers="5.22.0")
COMMAND = f"autobackend calibrate {MODEL} --workload {LOAD}"


def test_nothing_is_stale_where_nothing_changed(cache: Cache) -> None:
    cache.add(served(SDPA, KEY, HOST, {LOAD: 100.0}), unserved(CT2, KEY, HOST, environment={"ctranslate2": "4.0"}))
    assert stale_served(cache, host=HOST) == ()
    assert list(loads(())) == []


def test_the_best_of_before_could_change_an_answer(cache: Cache) -> None:
    cache.add(
        served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD),
        served(EAGER, KEY, HOST, {LOAD: 10.0}, ttft_s=0.9, environment=OLD),
        served(CT2, KEY, HOST, {LOAD: 100.0}),
    )
    [stale] = stale_served(cache, host=HOST)
    assert dict(stale.candidates) == {
        SDPA: ("transformers 5.22.0 -> 5.23.0",),
        EAGER: ("transformers 5.22.0 -> 5.23.0",),
    }
    assert (stale.mattering, stale.command) == ((SDPA,), COMMAND)
    assert [line.split()[:4] for line in loads([stale])] == [
        ["model", "load", "candidate", "could"],
        [MODEL, LOAD, SDPA, "yes:"],
        [MODEL, LOAD, EAGER, "no"],
    ]
    assert loads_sentence([stale]) == (
        f"1 candidate measured under load with other versions could change an answer: {LOAD}"
    )


def test_who_was_far_behind_could_not(cache: Cache) -> None:
    cache.add(
        *(served(SDPA, KEY, HOST, {LOAD: 20.0}, ttft_s=0.9, environment=OLD, round_=n) for n in (1, 2)),
        *(served(CT2, KEY, HOST, {LOAD: 200.0}, round_=n) for n in (1, 2)),
    )
    [stale] = stale_served(cache, host=HOST)
    assert stale.mattering == ()


def test_a_lossy_one_matters_among_all_and_the_exact_best_among_its_own(cache: Cache) -> None:
    cache.add(
        served("transformers:int8", KEY, HOST, {LOAD: 400.0}, environment=OLD, agreement=LOSSY),
        served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD),
        served(CT2, KEY, HOST, {LOAD: 50.0}),
    )
    [stale] = stale_served(cache, host=HOST, models=(MODEL,))
    assert set(stale.mattering) == {SDPA, "transformers:int8"}
    assert stale.command == f"{COMMAND} --allow-lossy"
    assert stale_served(cache, host=HOST, models=("./other",)) == ()


def test_check_fails_where_a_load_could_have_another_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.DEFAULT, "host", lambda: HOST)
    where = tmp_path / "cache.db"
    with Cache.open(where) as cache:
        cache.add(served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD), served(CT2, KEY, HOST, {LOAD: 100.0}))
    told = CliRunner().invoke(main, ["check", "--cache", str(where)])
    assert told.exit_code == 15
    assert f"measure them: {COMMAND}" in told.stderr
    as_json = CliRunner().invoke(main, ["check", "--cache", str(where), "--json"])
    [row] = json.loads(as_json.stdout)["served"]
    assert (row["workload"], row["could_change"], row["command"]) == (LOAD, [SDPA], COMMAND)
