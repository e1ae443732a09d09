"""What an upgrade made stale: could it change an answer, and what measuring it again costs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from calibration.cache.cache import Cache
from calibration.conversion.artifact import converted_key
from calibration.conversion.store import ArtifactStore
from calibration.errors import Outdated, UsageError
from calibration.measurement import Outcome
from calibration.workload import Workload, grid
from selector import context
from selector.cli import main
from selector.planning.plan import launch_spec_of
from selector.planning.weights import weights_of
from selector.screens.check import gone, sentence, table
from selector.upkeep.cost import LAUNCH_S, asked_for, launch_s
from selector.upkeep.outdated import StaleModel, stale_models
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, SPEC, with_versions
from tests.selector.launches import LOSSY, failure, rounds

INT8 = "ctranslate2:int8"
OLD_CT2 = {**with_versions(), "ctranslate2": "4.8.4"}
"""Of ctranslate2 the environment of today, but for its own version."""
OLD_TRANSFORMERS = with_versions(transformers="5.22.0")
CHANGED = ("transformers 5.22.0 -> 5.23.0",)


def measured(label: str, slow: float, count: int = 3, **more: Any) -> list[Outcome]:
    return [*rounds(label, KEY, HOST, (slow, slow * 1.01, slow * 0.99)[:count], **more)]


def found(cache: Cache, tmp_path: Path, *outcomes: Outcome, **asked: Any) -> tuple[StaleModel, ...]:
    cache.add(*outcomes)
    return stale_models(cache, host=HOST, store=ArtifactStore(tmp_path / "artifacts"), **asked)


def mattering(stale: StaleModel) -> list[tuple[str, str]]:
    return [(candidate.label, candidate.because) for candidate in stale.mattering]


def test_nothing_is_stale_where_nothing_changed(cache: Cache, tmp_path: Path) -> None:
    assert found(cache, tmp_path, *measured(CT2, 1.0), *measured(SDPA, 1.5)) == ()
    assert (sentence(()), list(table(()))) == ("nothing is stale", [])


def test_the_pick_of_before_could_change_an_answer(cache: Cache, tmp_path: Path) -> None:
    [stale] = found(cache, tmp_path, *measured(SDPA, 1.0, environment=OLD_TRANSFORMERS), *measured(CT2, 3.0))
    [candidate] = stale.candidates
    assert (candidate.label, candidate.differences, candidate.launches) == (SDPA, CHANGED, 3)
    assert candidate.because == "was the pick"
    assert candidate.workloads[0] == "pp512:tg128:b1"
    assert list(stale.leaders) == [CT2]
    assert stale.seconds == pytest.approx(candidate.seconds + stale.leaders[CT2])


def test_one_that_may_be_as_fast_as_the_pick_could_too_and_one_far_behind_could_not(
    cache: Cache, tmp_path: Path
) -> None:
    [stale] = found(
        *(cache, tmp_path),
        *measured(SDPA, 1.1, environment=OLD_TRANSFORMERS),
        *measured(EAGER, 4.0, environment=OLD_TRANSFORMERS),
        *measured(CT2, 1.0),
    )
    assert mattering(stale) == [(SDPA, f"may be as fast as {CT2}")]
    assert [(c.label, c.matters, c.barred) for c in stale.candidates] == [(SDPA, True, ""), (EAGER, False, "")]


def test_where_all_is_stale_the_pick_of_before_takes_the_place_of_todays(cache: Cache, tmp_path: Path) -> None:
    [stale] = found(
        *(cache, tmp_path),
        *measured(SDPA, 1.0, environment=OLD_TRANSFORMERS),
        *measured(EAGER, 4.0, environment=OLD_TRANSFORMERS),
    )
    assert mattering(stale) == [(SDPA, "was the pick")]
    assert stale.leaders == {}


def test_a_lossy_one_changes_only_the_answer_that_allows_it(cache: Cache, tmp_path: Path) -> None:
    [stale] = found(
        *(cache, tmp_path),
        *measured(INT8, 0.5, environment=OLD_CT2, agreement=LOSSY),
        *measured(SDPA, 1.0),
    )
    [candidate] = stale.mattering
    assert candidate.workloads[0] == "pp512:tg128:b1, lossy allowed"
    assert candidate.differences == ("ctranslate2 4.8.4 -> 4.8.5",)


def test_what_failed_with_other_versions_may_work_now(cache: Cache, tmp_path: Path) -> None:
    [stale] = found(cache, tmp_path, failure(EAGER, KEY, HOST, environment=OLD_TRANSFORMERS), *measured(SDPA, 1.0))
    assert mattering(stale) == [(EAGER, "it failed with other versions")]
    assert (stale.candidates[0].failure, stale.candidates[0].differences) == ("crashed in load", CHANGED)
    # What failed today is no news.
    assert found(cache, tmp_path, failure(EAGER, KEY, HOST, at=2e9)) == ()


def test_what_cannot_run_today_changes_nothing(cache: Cache, tmp_path: Path) -> None:
    cache.add(*measured(SDPA, 1.0, environment=OLD_TRANSFORMERS), *measured(CT2, 3.0))
    nothing = replace(HOST.installations["transformers"], versions={})
    without = replace(HOST, installations={**HOST.installations, "transformers": nothing})
    [stale] = stale_models(cache, host=without, store=ArtifactStore(tmp_path))
    [candidate] = [c for c in stale.candidates if c.label == SDPA]
    assert not candidate.matters
    assert "it is not installed" in candidate.barred


def test_a_launch_costs_its_load_its_samples_and_its_warm_ups(cache: Cache, tmp_path: Path) -> None:
    [launch] = rounds(SDPA, KEY, HOST, (1.0,), cells=(Workload(prompt_tokens=100, output_tokens=11),))
    # A sample takes 0.21 s and ten steps of 22 ms; a warm-up one step. Three samples lie 1 % apart.
    assert launch_s(launch) == pytest.approx(LAUNCH_S + 0.6 + 3 * 0.43 + 0.232)
    [stale] = found(cache, tmp_path, *measured(SDPA, 1.0, count=2, environment=OLD_TRANSFORMERS))
    last = measured(SDPA, 1.0, count=2)[-1]
    assert stale.candidates[0].seconds == pytest.approx(2 * launch_s(last))  # type: ignore[arg-type]


def test_a_conversion_is_made_again_where_the_converter_is_another(cache: Cache, tmp_path: Path) -> None:
    launches = [replace(m, prepare_s=9.25) for m in rounds(CT2, KEY, HOST, (1.0,), environment=OLD_CT2)]
    [stale] = found(cache, tmp_path, *launches)
    assert stale.candidates[0].conversion_s == 9.25
    assert stale.seconds == pytest.approx(stale.candidates[0].seconds + 9.25)
    spec = launch_spec_of(launches[0].candidate, HOST)
    key = converted_key(
        weights=weights_of(SPEC, random_weights=True).identity,
        candidate=spec.candidate,
        converter=spec.converter,
        model=MODEL,
        prepared_as=spec.variant.prepared_as,
    )
    ArtifactStore(tmp_path / "artifacts").make(key, lambda folder: None)
    [stale] = found(cache, tmp_path)
    assert stale.candidates[0].conversion_s == 0.0


def test_a_model_that_is_gone_is_said_and_changes_nothing(cache: Cache, tmp_path: Path) -> None:
    folder = str(tmp_path / "gone")
    [stale] = found(cache, tmp_path, *measured(SDPA, 1.0, environment=OLD_TRANSFORMERS, model=folder))
    assert stale.mattering == ()
    [line] = gone([stale])
    assert line.startswith(f"{folder} cannot be measured: ")
    assert line.endswith(f". Forget it: autobackend cache prune --model {folder}")


def test_another_model_of_the_name_is_not_the_one_that_was_measured(cache: Cache, tmp_path: Path) -> None:
    other = replace(KEY, fingerprint="0" * 12)
    [stale] = found(cache, tmp_path, *rounds(SDPA, other, HOST, (1.0,), environment=OLD_TRANSFORMERS))
    assert (stale.gone, stale.mattering) == ("another model is there now", ())


def test_rows_on_layers_are_judged_by_themselves(cache: Cache, tmp_path: Path) -> None:
    cut = replace(KEY, cut="3/30")
    [stale] = found(
        *(cache, tmp_path),
        *rounds(SDPA, cut, HOST, (1.0,), environment=OLD_TRANSFORMERS),
        *rounds(CT2, cut, HOST, (5.0,)),
        *measured(SDPA, 1.0),
    )
    assert (stale.identity.cut, mattering(stale)) == ("3/30", [(SDPA, "was the pick")])
    assert list(table([stale]))[1].startswith(f"{MODEL}, 3 of 30 layers  {SDPA}")


def test_rows_of_layers_that_the_model_has_not_cannot_be_measured(cache: Cache, tmp_path: Path) -> None:
    rows = rounds(SDPA, replace(KEY, cut="3/31"), HOST, (1.0,), environment=OLD_TRANSFORMERS)
    [stale] = found(cache, tmp_path, *rows)
    assert (stale.gone, stale.mattering) == ("3/31 are no layers of it", ())


def test_other_hosts_and_other_models_are_left_out(cache: Cache, tmp_path: Path) -> None:
    elsewhere = replace(KEY, host="b" * 12)
    assert found(cache, tmp_path, *rounds(SDPA, elsewhere, HOST, (1.0,), environment=OLD_TRANSFORMERS)) == ()
    measured_here = measured(SDPA, 1.0, environment=OLD_TRANSFORMERS)
    assert len(found(cache, tmp_path, *measured_here, models=[MODEL])) == 1
    with pytest.raises(UsageError) as caught:
        found(cache, tmp_path, models=["shape:gpt2"])
    assert caught.value.message == "nothing was measured here of shape:gpt2"
    assert caught.value.mend == f"measured were: {MODEL}"


@pytest.mark.parametrize(
    ("labels", "asked"),
    [
        ([cell.label for cell in grid()], ()),
        (["pp64:tg32:b1"], ("pp64:tg32:b1",)),
        (["pp100:tg32:b1", "pp900:tg32:b1", "pp100:tg32:b8", "pp900:tg32:b8"], ("pp100:tg32:b1", "pp900:tg32:b8")),
        ([], ()),
    ],
)
def test_the_same_cells_are_asked_for(labels: list[str], asked: tuple[str, ...]) -> None:
    cells = tuple(map(Workload.parse, labels))
    workloads = asked_for(cells, gpu=False)
    assert tuple(workload.label for workload in workloads) == asked
    if len(cells) == 4:
        assert set(grid(workloads)) == set(cells)


def test_what_is_measured_are_the_stale_ones_beside_the_picks(cache: Cache, tmp_path: Path) -> None:
    [stale] = found(
        *(cache, tmp_path),
        *measured(SDPA, 1.05, environment=OLD_TRANSFORMERS),
        *measured(EAGER, 9.0, environment=OLD_TRANSFORMERS),
        *measured(CT2, 1.0),
    )
    demand = stale.demand(gpu=False)
    assert (demand.backends, demand.workloads, demand.allow_lossy) == ((SDPA, CT2), (), False)
    [stale] = found(cache, tmp_path, *measured(INT8, 0.5, environment=OLD_CT2, agreement=LOSSY))
    assert stale.demand(gpu=False).allow_lossy


def run(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words], standalone_mode=False)


def test_the_command_fails_where_an_answer_could_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.DEFAULT, "host", lambda: HOST)
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "artifacts"))
    cache = tmp_path / "cache.db"
    with Cache.open(cache) as opened:
        opened.add(*measured(EAGER, 9.0, environment=OLD_TRANSFORMERS), *measured(CT2, 1.0))
    well = run("check", "--cache", cache)
    assert (well.exit_code, well.stderr) == (
        0,
        "note: 1 candidate is stale, and could not change an answer\n",
    )
    assert well.stdout.splitlines()[1].split("  ")[:2] == [MODEL, EAGER]
    assert "no: too slow by its times then" in well.stdout
    with Cache.open(cache) as opened:
        opened.add(*measured(SDPA, 1.0, environment=OLD_TRANSFORMERS))
    worse = run("check", "--cache", cache, "--json")
    assert isinstance(worse.exception, Outdated)
    assert worse.exception.exit_code == 15
    assert worse.exception.message.startswith(
        "1 of 2 stale candidates could change an answer: measuring them beside the picks of today takes about "
    )
    assert worse.exception.mend == "measure them: autobackend calibrate --stale"
    told = json.loads(worse.stdout)
    assert (told["stale"], told["could_change"]) == (2, 1)
    [model] = told["models"]
    assert (model["model"], model["leaders"]) == (MODEL, [CT2])
    assert [(c["candidate"], c["could_change"], c["because"]) for c in model["candidates"]] == [
        (SDPA, True, f"may be as fast as {CT2}"),
        (EAGER, False, None),
    ]


def test_calibrate_needs_a_model_or_stale_and_stale_takes_no_demand(tmp_path: Path) -> None:
    assert "Missing argument 'MODEL'" in str(run("calibrate").exception)
    refused = run("calibrate", "--stale", "--allow-lossy", "--cache", tmp_path / "cache.db").exception
    assert isinstance(refused, UsageError)
    assert refused.message == "--stale measures again what was measured; found --allow-lossy"
    ways = ("--full", "--sure", 0.95, "--random-weights", "--no-probe", "--again")
    for given in ("full", "random-weights", "no-probe", "again"):
        refused = run("calibrate", "--stale", f"--{given}", "--cache", tmp_path / "cache.db").exception
        assert isinstance(refused, UsageError)
        assert refused.message == f"--stale measures again what was measured; found --{given}"
    refused = run("calibrate", MODEL, "--stale", *ways, "--cache", tmp_path / "cache.db").exception
    assert isinstance(refused, UsageError)
    assert refused.message.endswith("; found --sure --full --random-weights --no-probe --again")
    assert run("calibrate", "--stale", "--rounds", 2, "--budget", 5, "--cache", tmp_path / "cache.db").exit_code == 0
