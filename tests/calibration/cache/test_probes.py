"""Probes of machines in the cache: kept by host, moved with the launches, never lost to a bad row."""

import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

from calibration.cache.cache import Cache, Imported
from calibration.cache.exchange import BadLine
from selector.predict.limits.probe import probe_of
from tests.calibration.cache.conftest import Run
from tests.calibration.launches import IDENTITY, measured
from tests.calibration.probes import GIVEN, probed


def exported(cache: Cache, **equal: str) -> list[str]:
    stream = StringIO()
    cache.export(stream, **equal)
    return stream.getvalue().splitlines()


def probes_in(lines: Sequence[str]) -> list[str]:
    return [record["probe_id"] for line in lines if (record := json.loads(line)).get("record") == "probe"]


def test_a_probe_is_kept_once_and_found_by_its_host(cache: Cache) -> None:
    elsewhere = probed(2, host="elsewhere")
    assert [cache.add_probe(p) for p in (GIVEN, elsewhere, GIVEN)] == [True, True, False]
    assert cache.probes() == [GIVEN, elsewhere]
    assert cache.probes("elsewhere") == [elsewhere]
    assert cache.probes("nowhere") == []


def test_a_cache_that_is_not_there_has_no_probes(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "none.db") as cache:
        assert cache.probes() == []
        assert probe_of(GIVEN.host, cache) is None


def test_the_newest_probe_that_nothing_disturbed_counts(cache: Cache) -> None:
    for probe in (probed(1), probed(3), probed(2), probed(4, disturbed=("memory",)), probed(9, host="elsewhere")):
        cache.add_probe(probe)
    assert probe_of(GIVEN.host, cache) == probed(3)


def test_of_disturbed_probes_the_newest_counts(cache: Cache) -> None:
    for number in (2, 1):
        cache.add_probe(probed(number, disturbed=("int8",)))
    assert probe_of(GIVEN.host, cache) == probed(2, disturbed=("int8",))


def test_probes_are_exported_and_come_in_elsewhere(cache: Cache, tmp_path: Path) -> None:
    cache.add(measured(1))
    for probe in (probed(1), probed(2, host="elsewhere")):
        cache.add_probe(probe)
    lines = exported(cache)
    assert probes_in(lines) == [probed(1).probe_id, probed(2).probe_id]
    with Cache.open(tmp_path / "other.db") as other:
        other.add_probe(probed(1))
        assert other.import_(lines) == Imported(added=1, duplicates=0, probes=1, bad=())
        assert other.import_(lines) == Imported(added=0, duplicates=1, probes=0, bad=())
        assert other.probes() == [probed(1), probed(2, host="elsewhere")]


def test_an_export_of_some_launches_has_the_probes_of_their_hosts(cache: Cache) -> None:
    cache.add(measured(1), measured(2, model="other", identity=replace(IDENTITY, host="unprobed")))
    cache.add_probe(probed(1))
    cache.add_probe(probed(2, host="elsewhere"))
    assert probes_in(exported(cache, model="shape:smollm2-135m")) == [probed(1).probe_id]
    assert probes_in(exported(cache, model="other")) == []


def test_a_line_that_is_no_probe_is_left_out_and_said_why(cache: Cache) -> None:
    cache.add_probe(GIVEN)
    header, line = exported(cache)
    spoiled = {**json.loads(line), "seconds": "long"}
    done = cache.import_([header, json.dumps(spoiled)])
    assert done.bad == (BadLine(number=2, reason="needs a number in seconds; found 'long'"),)


def test_a_row_that_is_no_probe_is_left_out_and_named(cache: Cache, run: Run) -> None:
    cache.add_probe(probed(1))
    cache.add_probe(probed(2))
    run(f"UPDATE probes SET content = '{{}}' WHERE probe_id = '{probed(1).probe_id}'")
    assert cache.probes() == [probed(2)]
    assert cache.check().unreadable == {probed(1).probe_id: "needs the field probe_id; found none"}
