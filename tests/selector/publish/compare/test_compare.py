"""Results beside older ones: what counts as worse, what is only said, and what is no change at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from calibration.cache.cache import Cache
from calibration.errors import UsageError, Worse
from calibration.measurement import FailureKind, Outcome
from selector.cli import main
from selector.publish.compare.compare import Change, Kind, compare
from selector.publish.compare.compared import comparison_lines, comparison_sentence
from selector.publish.compare.older import of_launches, read_older
from selector.publish.hosts.host_file import HostResults, KeptVerdict
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import matrix
from tests.selector.launches import LOSSY, failure, rounds
from tests.selector.publish.published import CHAT, CT2, EAGER, HOST, KEY, MODEL, SDPA, published

RESULTS = Path(__file__).parents[4] / "results"
LEGAL = (KeptVerdict(label=CT2), KeptVerdict(label=SDPA), KeptVerdict(label=EAGER))
INT8 = "ctranslate2:int8"


def launched(calibration: str = "c1", **slow: float) -> list[Outcome]:
    """Three rounds of each candidate named, so many times as slow as a launch is."""
    names = {"ct2": CT2, "sdpa": SDPA, "eager": EAGER}
    return [
        launch
        for name, times in slow.items()
        for launch in rounds(names[name], KEY, HOST, (times, times * 1.01, times * 0.99), calibration=calibration)
    ]


BEFORE = published(*launched(ct2=1.0, sdpa=1.5, eager=1.52), verdicts=LEGAL)


def changed(now: HostResults, before: HostResults = BEFORE) -> list[tuple[Kind, bool, str]]:
    return [(change.kind, change.worse, change.of) for change in compare([before], [now]).changes]


def chat(changes: list[tuple[Kind, bool, str]]) -> list[tuple[Kind, bool]]:
    """What became of the winner of one workload."""
    return [(kind, worse) for kind, worse, of in changes if of == CHAT]


def test_the_same_results_have_not_changed() -> None:
    found = compare([BEFORE], [BEFORE])
    assert (found.hosts, found.models, found.candidates, found.changes) == ((HOST.identifier,), 1, 3, ())
    # Four standard workloads and four cells, with lossy candidates and without.
    assert found.winners == 16 - 2  # `summarize` and `write` are the ends of the hull
    assert comparison_sentence(found).endswith("nothing changed")


@pytest.mark.parametrize(
    ("kind", "told"), [(FailureKind.CRASHED, Kind.FAILING), (FailureKind.WRONG_OUTPUT, Kind.WRONG)]
)
def test_legal_before_and_failing_now_is_worse(kind: FailureKind, told: Kind) -> None:
    now = published(*launched("c2", ct2=1.0, sdpa=1.5), failure(EAGER, KEY, HOST, kind=kind), verdicts=LEGAL)
    assert changed(now) == [(told, True, EAGER)]
    [change] = compare([BEFORE], [now]).changes
    assert (change.before, change.now) == ("right", f"{kind} in load: the worker was killed by signal 11")


def test_what_a_rule_refuses_now_is_worse_though_its_old_times_are_there() -> None:
    reason = "needs transformers>=6; 5.23.0 is installed"
    refused = (*LEGAL[:2], KeptVerdict(label=EAGER, reasons=(reason,)))
    now = published(*launched(ct2=1.0, sdpa=1.5, eager=1.52), verdicts=refused)
    assert compare([BEFORE], [now]).changes == (
        Change(
            host=HOST.identifier, model=MODEL, kind=Kind.REFUSED, of=EAGER, before="right", now=f"refused: {reason}"
        ),
    )


def test_legal_by_the_rules_alone_and_failing_when_it_is_launched_is_worse() -> None:
    before = published(*launched(ct2=1.0), verdicts=LEGAL)
    now = published(*launched(ct2=1.0), failure(SDPA, KEY, HOST), verdicts=LEGAL)
    assert changed(now, before) == [(Kind.FAILING, True, SDPA)]


def test_what_failed_and_was_refused_before_may_fail_again_and_what_works_is_said() -> None:
    before = published(
        *(*launched(ct2=1.0), failure(SDPA, KEY, HOST)),
        verdicts=(LEGAL[0], LEGAL[1], KeptVerdict(label=EAGER, reasons=("needs eager",))),
    )
    assert changed(before, before) == []
    now = published(*launched("c2", ct2=1.0, sdpa=1.5, eager=1.6), verdicts=LEGAL)
    assert sorted(changed(now, before)) == [(Kind.WORKS, False, EAGER), (Kind.WORKS, False, SDPA)]


def test_another_winner_that_is_slower_than_the_one_before_is_worse() -> None:
    # The winner lost half of its speed: the next is the first now, and takes half as long again.
    now = published(*launched("c2", ct2=2.5, sdpa=1.5, eager=1.9), verdicts=LEGAL)
    assert chat(changed(now)) == [(Kind.SLOWER_WINNER, True)]
    [change] = [c for c in compare([BEFORE], [now]).changes if c.of == CHAT]
    assert change.before.startswith(f"{CT2}, 3.8") and change.now.startswith(f"{SDPA}, 5.7")


def test_another_winner_that_is_as_fast_as_the_one_before_is_only_said() -> None:
    now = published(*launched("c2", ct2=1.5, sdpa=1.0, eager=1.9), verdicts=LEGAL)
    assert chat(changed(now)) == [(Kind.OTHER_WINNER, False)]


@pytest.mark.parametrize(("sdpa", "ct2"), [(1.0, 1.02), (1.0, 1.1)])
def test_another_winner_within_band_or_intervals_is_no_change(sdpa: float, ct2: float) -> None:
    now = published(*rounds(CT2, KEY, HOST, (ct2,)), *rounds(SDPA, KEY, HOST, (sdpa,)), verdicts=LEGAL)
    assert chat(changed(now)) == []


def test_a_winner_that_was_as_fast_as_the_first_before_is_no_other_winner() -> None:
    before = published(*launched(sdpa=1.0, eager=1.01), verdicts=LEGAL)
    now = published(*launched("c2", sdpa=1.4, eager=1.01), verdicts=LEGAL)
    assert chat(changed(now, before)) == []


def test_the_same_winner_is_slower_than_launches_vary() -> None:
    now = published(*launched("c2", ct2=1.4, sdpa=1.9, eager=1.9), verdicts=LEGAL)
    assert chat(changed(now)) == [(Kind.SLOWER, False)]


def test_a_winner_that_was_not_measured_again_decides_nothing() -> None:
    now = published(*launched("c2", sdpa=1.5, eager=1.52), verdicts=LEGAL)
    assert chat(changed(now)) == [(Kind.NOT_MEASURED, False)]
    stale = [replace(launch, environment={**launch.environment, "ctranslate2": "4.0"}) for launch in launched(ct2=1.0)]
    [change] = [
        c for c in compare([BEFORE], [published(*launched("c2", sdpa=1.5), *stale, verdicts=LEGAL)]).changes
        if c.of == CHAT
    ]  # fmt: skip
    assert change.now == f"{CT2} is stale: ctranslate2 4.0 -> 4.8.5"


def test_a_winner_that_fails_now_leaves_a_slower_one() -> None:
    now = published(*launched("c2", sdpa=1.5), failure(CT2, KEY, HOST), verdicts=LEGAL)
    found = changed(now)
    assert (Kind.FAILING, True, CT2) in found
    assert chat(found) == [(Kind.SLOWER_WINNER, True)]


def test_lossy_candidates_have_a_winner_of_their_own() -> None:
    def with_lossy(times: float) -> HostResults:
        lossy = rounds(INT8, KEY, HOST, (times, times * 1.01, times * 0.99), agreement=LOSSY)
        return published(*launched(ct2=1.0, sdpa=1.5), *lossy, verdicts=LEGAL)

    found = changed(with_lossy(1.8), with_lossy(0.5))
    assert {of for _, _, of in found if of.startswith(CHAT)} == {f"{CHAT}, lossy allowed"}
    assert all(worse for _, worse, _ in found)


def test_results_of_other_machines_cannot_be_compared() -> None:
    with pytest.raises(UsageError) as caught:
        compare([BEFORE], [published(*launched(ct2=1.0), host="b" * 12)])
    assert caught.value.message == (
        f"nothing to compare: the older results are of {HOST.identifier}, the new ones of {'b' * 12}"
    )


def test_the_table_has_the_worse_first() -> None:
    now = published(*launched("c2", ct2=1.5, sdpa=1.0, eager=1.9), failure(EAGER, KEY, HOST, at=2e9), verdicts=LEGAL)
    head, first, *others = comparison_lines(compare([BEFORE], [now]))
    assert head.split() == ["model", "change", "of", "before", "->", "now"]
    assert first.split()[:4] == ["worse", MODEL, "fails", EAGER]
    assert others and not any(line.startswith("worse") for line in others)


def run(*words: object) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words], standalone_mode=False)


@pytest.mark.parametrize("kind", ["file", "folder", "export"])
def test_real_results_equal_themselves_and_are_worse_where_one_fails(kind: str, tmp_path: Path) -> None:
    [file] = RESULTS.glob("hosts/0520274b31aa.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    folder = tmp_path / "old"
    (folder / "hosts").mkdir(parents=True)
    (folder / "hosts" / file.name).write_text(json.dumps(content), encoding="utf-8")
    older = {"file": folder / "hosts" / file.name, "folder": folder, "export": tmp_path / "rows.jsonl"}[kind]
    if kind == "export":
        header = {"format": "autobackend-cache", "version": 2}
        older.write_text("\n".join(json.dumps(line) for line in [header, *content["records"]]), encoding="utf-8")
    [before] = read_older(older)
    [now] = read_older(file)
    found = compare([before], [now])
    assert found.models >= 5 and found.winners > 50
    assert found.changes == ()
    # Its fastest candidate crashes from now on.
    [row] = [row for row in matrix([now]).rows if row.model == MODEL]
    [best] = [s for s in row.squares if (f := s.figures.get((View.END_TO_END, CHAT))) and f.best]
    assert best.last is not None
    environment = now.environments[best.backend]
    crash = failure(best.label, row.identity, HOST, environment=environment, at=best.last.started_at + 1e6)
    found = compare([before], [replace(now, outcomes=(*now.outcomes, crash))])
    assert next((c.model, c.kind, c.of) for c in found.worse) == (MODEL, Kind.FAILING, best.label)
    assert {c.model for c in found.changes} == {MODEL}


def test_publish_fails_where_results_are_worse_and_says_so_in_json(tmp_path: Path, monkeypatch: Any) -> None:
    from selector import context

    monkeypatch.setattr(context.DEFAULT, "host", lambda: HOST)
    out, cache = tmp_path / "results", tmp_path / "cache.db"
    with Cache.open(cache) as opened:
        opened.add(*launched(ct2=1.0, sdpa=1.5, eager=1.52))
    assert run("publish", "--out", out, "--cache", cache).exit_code == 0
    same = run("publish", "--out", out, "--compare", out, "--cache", cache)
    assert (same.exit_code, same.stdout) == (0, "")
    assert "nothing changed" in same.stderr
    with Cache.open(cache) as opened:
        opened.add(failure(EAGER, KEY, HOST, at=2e9))
    worse = run("publish", "--out", out, "--compare", out, "--cache", cache, "--json")
    assert isinstance(worse.exception, Worse)
    told = json.loads(worse.stdout)
    assert [(c["kind"], c["of"], c["worse"]) for c in told["compared"]["changes"]] == [("fails", EAGER, True)]
    assert told["written"][0] == str(out / "hosts" / f"{HOST.identifier}.json")


def test_an_export_knows_what_each_host_ran_with() -> None:
    [results] = of_launches(launched(ct2=1.0))
    assert results.environments["ctranslate2"] == BEFORE.environments["ctranslate2"]
    assert compare([results], [BEFORE]).changes == ()


@pytest.mark.parametrize(("name", "message"), [("gone", "is not there"), ("empty", "holds no results")])
def test_old_results_that_are_not_there(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        read_older(tmp_path / name)


def test_a_few_layers_are_compared_with_the_same_few_layers() -> None:
    cut = replace(KEY, cut="3/30")
    on_layers = [replace(o, identity=cut) for o in launched(ct2=0.3, sdpa=0.1)]
    before = published(*launched(ct2=1.0, sdpa=1.5), *on_layers, verdicts=LEGAL)
    assert compare([before], [before]).changes == ()
    now = published(*launched("c2", ct2=1.0, sdpa=1.5), failure(SDPA, cut, HOST), *on_layers[:3], verdicts=LEGAL)
    [change] = [change for change in compare([before], [now]).changes if change.kind is Kind.FAILING]
    assert (change.model, change.of) == (f"{MODEL}, 3 of 30 layers", SDPA)
    assert compare([published(*on_layers)], [published(*launched(ct2=1.0))]).models == 0
