"""What an upgrade made stale of what was measured under load."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration.cache.cache import Cache
from selector import context
from selector.cli import main
from selector.demand.demand import Demand
from selector.screens.check import gone, loads, loads_sentence
from selector.screens.text import seconds
from selector.upkeep.served import stale_served
from tests.calibration.points import replayed, trace_of
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, with_versions
from tests.selector.launches import LOSSY, served, unserved

LOAD = "pp64:tg32:c8"
OLD = with_versions(transformers="5.22.0")
COMMAND = f"autobackend calibrate {MODEL} --workload {LOAD}"
INT8 = "ctranslate2:int8"
TRACE = trace_of(20)


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
    assert (stale.leaders, stale.launches, stale.kept, stale.gone) == ((CT2,), 2, True, "")
    # Two launches of each, as long as the recorded ones: until the server is ready, and under the load.
    took_s = 2 * (2 * 0.6 + 6 * 8 * 32 * (1 / 200 + 1 / 100))
    assert stale.seconds == pytest.approx(took_s, rel=1e-3)
    assert loads_sentence([stale]) == (
        f"1 candidate measured under load with other versions could change an answer: {LOAD};"
        f" measuring them beside the picks of today takes about {seconds(stale.seconds)}"
    )
    assert stale.demand == Demand.of(workload=LOAD, backends=[SDPA, CT2])


def test_who_was_far_behind_could_not(cache: Cache) -> None:
    cache.add(
        *(served(SDPA, KEY, HOST, {LOAD: 20.0}, ttft_s=0.9, environment=OLD, round_=n) for n in (1, 2)),
        *(served(CT2, KEY, HOST, {LOAD: 200.0}, round_=n) for n in (1, 2)),
    )
    [stale] = stale_served(cache, host=HOST)
    assert (stale.mattering, stale.leaders, stale.seconds) == ((), (), 0.0)


def test_a_lossy_one_matters_among_all_and_the_exact_best_among_its_own(cache: Cache) -> None:
    cache.add(
        served(INT8, KEY, HOST, {LOAD: 400.0}, environment={"ctranslate2": "4.0"}, agreement=LOSSY),
        served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD),
        served(CT2, KEY, HOST, {LOAD: 50.0}),
    )
    [stale] = stale_served(cache, host=HOST, models=(MODEL,))
    assert set(stale.mattering) == {SDPA, INT8}
    assert stale.demand.allow_lossy
    assert stale.command == f"{COMMAND} --allow-lossy"
    assert stale_served(cache, host=HOST, models=("./other",)) == ()


def test_check_fails_where_a_load_could_have_another_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.DEFAULT, "host", lambda: HOST)
    where = tmp_path / "cache.db"
    with Cache.open(where) as cache:
        cache.add(served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD), served(CT2, KEY, HOST, {LOAD: 100.0}))
    told = CliRunner().invoke(main, ["check", "--cache", str(where)])
    assert told.exit_code == 15
    assert "measure them: autobackend calibrate --stale\n" in told.stderr
    as_json = CliRunner().invoke(main, ["check", "--cache", str(where), "--json"])
    [row] = json.loads(as_json.stdout)["served"]
    assert (row["workload"], row["could_change"], row["command"]) == (LOAD, [SDPA], COMMAND)


def test_the_json_tells_what_is_measured_beside_it_and_what_that_costs(cache: Cache) -> None:
    cache.add(served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD), served(CT2, KEY, HOST, {LOAD: 100.0}))
    [stale] = stale_served(cache, host=HOST)
    told = stale.to_json()
    assert list(told) == [
        "model", "workload", "candidates", "could_change", "leaders", "seconds", "gone", "command",
    ]  # fmt: skip
    assert (told["could_change"], told["leaders"], told["gone"]) == ([SDPA], [CT2], None)


def test_who_cannot_be_launched_today_could_not_change_an_answer(cache: Cache) -> None:
    cache.add(
        served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD),
        served("transformers:never", KEY, HOST, {LOAD: 900.0}, environment=OLD),
        served("unknown:default", KEY, HOST, {LOAD: 900.0}, environment={"unknown": "1"}),
    )
    [stale] = stale_served(cache, host=HOST)
    assert set(stale.candidates) == {SDPA, "transformers:never", "unknown:default"}
    assert (stale.mattering, stale.leaders) == ((SDPA,), ())


def test_models_of_one_shape_share_what_was_measured_under_load(cache: Cache) -> None:
    cache.add(
        served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD),
        served(SDPA, replace(KEY, config="f" * 16), HOST, {LOAD: 200.0}, model="./twin", round_=2),
    )
    assert stale_served(cache, host=HOST) == ()


def test_a_model_that_is_gone_is_told_and_could_change_nothing(cache: Cache, tmp_path: Path) -> None:
    folder = str(tmp_path / "gone")
    cache.add(served(SDPA, KEY, HOST, {LOAD: 200.0, "pp64:tg32:c1": 30.0}, environment=OLD, model=folder))
    stale = stale_served(cache, host=HOST)
    assert [one.mattering for one in stale] == [(), ()]
    [line] = gone((), stale)
    assert line.startswith(f"{folder} cannot be measured: ")
    assert line.endswith(f"Forget it: autobackend cache prune --model {folder}")


def test_a_trace_is_measured_again_from_what_its_launches_have_kept(cache: Cache) -> None:
    launch = served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD)
    cache.add(replace(launch, points=(replayed(TRACE),)))
    [stale] = stale_served(cache, host=HOST)
    assert (stale.mattering, stale.kept) == ((SDPA,), True)
    assert stale.command == f"autobackend calibrate {MODEL} --workload {TRACE.load.label}"
    assert list(loads([stale]))[1].startswith(f"{MODEL}  trace:requests 20 requests in 9.5 s  {SDPA}  yes: ")


def test_a_trace_that_no_launch_was_sent_whole_needs_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.DEFAULT, "host", lambda: HOST)
    where, stopped = tmp_path / "cache.db", replayed(TRACE, asked=replayed(TRACE).asked[:9])
    with Cache.open(where) as cache:
        cache.add(replace(served(SDPA, KEY, HOST, {LOAD: 200.0}, environment=OLD), points=(stopped,)))
        [stale] = stale_served(cache, host=HOST)
    assert (stale.mattering, stale.kept) == ((SDPA,), False)
    told = CliRunner().invoke(main, ["check", "--cache", str(where)])
    again = f"autobackend calibrate {MODEL} --trace FILE"
    assert told.exit_code == 15
    assert f"warning: the requests of {TRACE.load.title} are not kept. Measure it again: {again}\n" in told.stderr
    assert f"measure them: {again}\n" in told.stderr
