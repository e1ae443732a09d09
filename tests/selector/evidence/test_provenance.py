"""Whose launches answer: the user's own before the fleet's, and it is said of which cache, host and day they are."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration.cache.cache import Cache
from calibration.measurement import Outcome
from selector.answer import Selection, SelectionWarning, Source
from selector.cli import main
from selector.context import Context
from selector.screens.select import why
from selector.selection import choose, select
from tests.selector.answering import CT2, HOST, KEY, MODEL, SDPA
from tests.selector.launches import DAY, rounds, served

TODAY = datetime.fromtimestamp(DAY, UTC).date().isoformat()
LOAD = "pp64:tg32:c8"


def snapshot(folder: Path, *outcomes: Outcome) -> Path:
    with Cache.open(folder / "whole.db", fleet="") as cache:
        cache.add(*outcomes)
        cache.snapshot(folder / "fleet.db")
    return folder / "fleet.db"


def answered(folder: Path, fleet: Path | str, own: Iterable[Outcome] = (), **asked: str) -> Selection:
    with Cache.open(folder / "own.db", fleet=fleet) as cache:
        cache.add(*own)
        return choose(MODEL, cache=cache, host=HOST, **asked)  # type: ignore[arg-type]


def of_fleet(selection: Selection) -> list[str]:
    return [note for note in selection.notes if "the fleet's cache" in note]


def test_launches_of_the_fleet_answer_and_it_is_said(tmp_path: Path) -> None:
    fleet = snapshot(tmp_path, *rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    selection = answered(tmp_path, fleet, rounds(CT2, KEY, HOST, (2.0,)))
    assert (selection.candidate.label, selection.source) == (SDPA, Source.MEASURED)
    [note] = of_fleet(selection)
    assert note == (
        f"2 of 2 launches of {SDPA} were read from the fleet's cache {fleet} (host {HOST.identifier}, the newest of"
        f" {TODAY}; the snapshot is of {datetime.now(UTC).date().isoformat()})"
    )
    [caches] = selection.to_json()["caches"]
    assert caches.pop("made_at") > DAY
    assert caches == {
        "cache": "fleet",
        "location": str(fleet),
        "launches": 2,
        "host": HOST.identifier,
        "newest": selection.measured_at,
    }


def test_launches_of_both_count_together(tmp_path: Path) -> None:
    shared, *more = rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0))
    selection = answered(tmp_path, snapshot(tmp_path, shared, *more), [shared])
    [own, fleet] = selection.provenance
    assert [(p.level.name, p.launches) for p in (own, fleet)] == [("own", 1), ("fleet", 2)]
    assert selection.ranking[0].n == 3
    assert of_fleet(selection)[0].startswith(f"2 of 3 launches of {SDPA} were read from the fleet's cache ")
    shown = [" ".join(line.split()) for line in why(selection, now=DAY + 3 * 86400) if "cache" in line]
    assert shown[0].startswith(
        f"read from: your own cache {tmp_path / 'own.db'} (1 launch of host {HOST.identifier}, the"
    )
    assert shown[1].startswith(
        f"the fleet's cache {tmp_path / 'fleet.db'} (2 launches of host {HOST.identifier}, the newest"
    )


def test_the_own_launches_alone_say_nothing_of_the_fleet(tmp_path: Path) -> None:
    fleet = snapshot(tmp_path, *rounds(CT2, KEY, HOST, (2.0,)))
    selection = answered(tmp_path, fleet, rounds(SDPA, KEY, HOST, (1.0,)))
    assert selection.candidate.label == SDPA
    assert [part.level.name for part in selection.provenance] == ["own"]
    assert of_fleet(selection) == []
    assert [line for line in why(selection) if "read from" in line] == []


def test_what_another_host_of_the_fleet_measured_is_transferred(tmp_path: Path) -> None:
    elsewhere = replace(KEY, host="b" * 12)
    selection = answered(tmp_path, snapshot(tmp_path, *rounds(SDPA, elsewhere, HOST, (1.0, 1.0))))
    assert (selection.source, selection.candidate.label) == (Source.TRANSFERRED, SDPA)
    [part] = selection.provenance
    assert (part.level.name, part.launches, part.host) == ("fleet", 2, "b" * 12)
    assert f"(host {'b' * 12}, the newest of " in of_fleet(selection)[0]


def test_what_was_served_elsewhere_is_read_too(tmp_path: Path) -> None:
    selection = answered(tmp_path, snapshot(tmp_path, served(SDPA, KEY, HOST, {LOAD: 80.0})), workload=LOAD)
    assert selection.served
    assert [(part.level.name, part.launches) for part in selection.provenance] == [("fleet", 1)]


def test_what_nobody_measured_is_predicted_as_ever(tmp_path: Path) -> None:
    selection = answered(tmp_path, snapshot(tmp_path))
    assert (selection.source, selection.provenance) == (Source.PREDICTED, ())


def test_a_live_database_as_the_fleets_cache(tmp_path: Path, database: str) -> None:
    with Cache.open(database) as below:
        below.add(*rounds(SDPA, KEY, HOST, (1.0,)))
    with Context() as context, Cache.open(tmp_path / "own.db", fleet=database) as cache:
        first = choose(MODEL, cache=cache, host=HOST, context=context)
        assert choose(MODEL, cache=cache, host=HOST, context=context) is first
        assert f" {cache.levels[1].location} (host {HOST.identifier}, the newest of {TODAY})" in of_fleet(first)[0]
        with Cache.open(database) as below:
            below.add(*rounds(CT2, KEY, HOST, (0.5,)))
        assert choose(MODEL, cache=cache, host=HOST, context=context).candidate.label == CT2


def test_an_answer_without_the_fleet_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBACKEND_FLEET_CACHE", str(tmp_path / "none.db"))
    own = tmp_path / "own.db"
    with Cache.open(own) as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
    with Context() as context, pytest.warns(SelectionWarning, match="none.db is not there; answers are without what"):
        assert select(MODEL, cache=own, host=HOST, context=context).candidate.label == SDPA


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, [*map(str, words)], prog_name="autobackend")
    return done.exit_code, done.stdout, done.stderr


def test_the_command_makes_a_snapshot_and_tells_where_the_fleets_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, fleet = tmp_path / "own.db", tmp_path / "fleet.db"
    with Cache.open(own) as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    code, stdout, stderr = run("cache", "snapshot", fleet, "--cache", own)
    assert (code, stdout) == (0, "")
    assert stderr == f"{fleet}: 2 launches, 0 probes of a machine, {fleet.stat().st_size // 1024} KiB\n"
    monkeypatch.setenv("AUTOBACKEND_FLEET_CACHE", str(fleet))
    code, stdout, stderr = run("cache", "path", "--cache", tmp_path / "other.db")
    assert (code, stdout) == (0, f"{tmp_path / 'other.db'}\n")
    assert stderr.startswith(
        f"note: below it the fleet's cache is read: {fleet} (a snapshot made just now; its newest launch ran "
    )
    code, stdout, stderr = run("cache", "list", "--json", "--cache", tmp_path / "other.db")
    assert (code, json.loads(stdout)) == (0, [])
    code, _, stderr = run("cache", "snapshot", own, "--cache", own)
    assert (code, stderr) == (4, f"error: {own} is there and is no snapshot\nname another file, or remove it\n")


def test_commands_on_a_database(tmp_path: Path, database: str) -> None:
    """No command shows the password."""
    rows, secret = tmp_path / "rows.jsonl", database.split(":")[2].partition("@")[0]
    with Cache.open(tmp_path / "own.db") as cache, rows.open("w") as stream:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))
        cache.export(stream)
    shown = [
        run("cache", "import", rows, "--cache", database),
        run("cache", "list", "--cache", database),
        run("cache", "show", MODEL, "--cache", database),
        run("cache", "check", "--cache", database),
        run("cache", "path", "--cache", database),
        run("cache", "export", "--out", tmp_path / "again.jsonl", "--cache", database),
        run("cache", "snapshot", tmp_path / "fleet.db", "--cache", database),
        run("select", MODEL, "--cache", database, "--json"),
        run("cache", "prune", "--model", MODEL, "--cache", database),
        run("cache", "list", "--cache", database),
    ]
    assert [code for code, _, _ in shown] == [0] * 10
    assert shown[0][1] == f"{rows}: 2 launches added, 0 known already\n"
    assert shown[3][1].endswith(": 2 launches, well\n")
    assert (tmp_path / "again.jsonl").read_text() == rows.read_text()
    assert shown[8][1] == "forgot 2 launches\n"
    assert shown[9][2].startswith("nothing was measured yet; the cache is postgresql://autobackend:***@127.0.0.1:")
    assert [text for _, *texts in shown for text in texts if secret in text] == []


@pytest.mark.parametrize(
    ("port", "code", "said"), [("1", 19, "cannot be reached"), ("", 20, "does not let autobackend in")]
)
def test_a_database_that_fails_has_an_exit_code_of_its_own(database: str, port: str, code: int, said: str) -> None:
    head, _, secret = database.rpartition("@")[0].rpartition(":")
    place = database.rpartition("@")[2]
    if port:
        place = f"127.0.0.1:{port}/x"
    found, stdout, stderr = run("select", MODEL, "--cache", f"{head}:wrong-{secret}@{place}")
    assert (found, stdout) == (code, "")
    assert stderr.startswith("error: the cache postgresql://autobackend:***@127.0.0.1:")
    assert (said in stderr, secret in stderr) == (True, False)
