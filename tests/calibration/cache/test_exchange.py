"""The export format: out of one cache, into another."""

import json
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache, Imported
from calibration.cache.exchange import BadLine
from calibration.errors import CacheError
from calibration.measurement import NOT_AS_SERVED, Outcome, to_json
from tests.calibration.launches import CUT, IDENTITY, checked, failed, measured, served, unserved

HEADER = '{"format": "autobackend-cache", "version": 5}\n'


def lines(*outcomes: Outcome) -> str:
    return HEADER + "".join(json.dumps(to_json(o)) + "\n" for o in outcomes)


def test_an_export_comes_in_elsewhere_and_twice_is_once(cache: Cache, tmp_path: Path) -> None:
    outcomes: list[Outcome] = [measured(1, identity=CUT), measured(2), failed(3), checked(4), served(5), unserved(6)]
    cache.add(*outcomes)
    stream = StringIO()
    assert cache.export(stream) == 6
    assert stream.getvalue().startswith(HEADER)
    with Cache.open(tmp_path / "elsewhere.db") as other:
        other.add(measured(2))
        assert other.import_(StringIO(stream.getvalue())) == Imported(added=5, duplicates=1, bad=())
        assert other.import_(stream.getvalue().splitlines()) == Imported(added=0, duplicates=6, bad=())
        assert list(other.all()) == outcomes
    stream = StringIO()
    assert cache.export(stream, backend="pytorch") == 2


def test_an_export_of_version_1_comes_in_without_configs(cache: Cache) -> None:
    written = [to_json(measured(1)), to_json(failed(2))]
    for record in written:
        del record["identity"]["config"], record["identity"]["cut"]
    lines = ['{"format": "autobackend-cache", "version": 1}', *map(json.dumps, written)]
    assert cache.import_(lines) == Imported(added=2, duplicates=0, bad=())
    unknown = replace(IDENTITY, config="")
    assert list(cache.all()) == [measured(1, identity=unknown), failed(2, identity=unknown)]


def test_an_export_of_version_2_comes_in_as_launches_of_whole_models(cache: Cache) -> None:
    written = to_json(measured(1))
    del written["identity"]["cut"]
    lines = ['{"format": "autobackend-cache", "version": 2}', json.dumps(written)]
    assert cache.import_(lines) == Imported(added=1, duplicates=0, bad=())
    assert list(cache.all()) == [measured(1)]


def test_an_export_of_version_3_comes_in_as_it_was(cache: Cache) -> None:
    lines = ['{"format": "autobackend-cache", "version": 3}', json.dumps(to_json(measured(1)))]
    assert cache.import_(lines) == Imported(added=1, duplicates=0, bad=())
    assert list(cache.all()) == [measured(1)]


def test_an_export_of_version_4_comes_in_without_verdicts_on_what_was_served(cache: Cache) -> None:
    written = to_json(served(1))
    del written["as_served"]
    lines = ['{"format": "autobackend-cache", "version": 4}', json.dumps(written)]
    assert cache.import_(lines) == Imported(added=1, duplicates=0, bad=())
    assert list(cache.all()) == [served(1, as_served=NOT_AS_SERVED)]


def test_bad_points_are_said_why(cache: Cache) -> None:
    good = to_json(served(1))
    [point, _] = good["points"]
    spoiled = [
        good | {"points": []},
        good | {"points": [point | {"load": {"prompt": {"low": 1, "high": 1}, "output": {"low": 1, "high": 1}}}]},
        good | {"threads": "2"},
        {k: v for k, v in good.items() if k != "slots"},
    ]
    done = cache.import_(StringIO(HEADER + "".join(json.dumps(s) + "\n" for s in spoiled)))
    assert [bad.reason for bad in done.bad] == [
        "needs a list with something in it in points; found []",
        "points[0].load: a load needs streams or a rate, more than 0; found 0 streams, 0 requests a second",
        "needs a whole number in threads; found '2'",
        "needs the field slots; found none",
    ]


def test_bad_lines_are_left_out_and_said_why(cache: Cache) -> None:
    good = to_json(measured(1))
    spoiled: list[dict[str, Any]] = [
        {k: v for k, v in good.items() if k != "cells"},
        good | {"cells": []},
        good | {"record": "check"},
        good | {"load_s": -1},
        good | {"load_s": "2"},
        good | {"load_s": True},
        good | {"round": 2**70},
        good | {"speed": 9000},
        good | {"record": "rumour"},
        good | {"identity": None},
        good | {"identity": good["identity"] | {"device_count": 1.5}},
        good | {"identity": good["identity"] | {"cut": "six"}},
        good | {"identity": good["identity"] | {"cut": "32/32"}},
        good | {"environment": {"torch": 2}},
        good | {"agreement": good["agreement"] | {"verdict": "maybe"}},
        good | {"cells": [{"workload": {"prompt_tokens": 0, "output_tokens": 1}, "samples": []}]},
        good | {"cells": [{"workload": {"prompt_tokens": 1, "output_tokens": 1}, "samples": [{"ttft_s": None}]}]},
    ]
    text = lines(measured(1)) + "\n[]\nnot json\n" + "".join(json.dumps(s) + "\n" for s in spoiled) + '{"load_s": NaN}'
    done = cache.import_(StringIO(text))
    assert (done.added, done.duplicates) == (1, 0)
    assert done.bad == tuple(
        BadLine(number=4 + i, reason=reason)
        for i, reason in enumerate(
            [
                "needs an object; found []",
                "is not JSON: Expecting value: line 1 column 1 (char 0)",
                "needs the field cells; found none",
                "needs a list with something in it in cells; found []",
                "knows no field cells",
                "needs a finite number >= 0 in load_s; found -1.0",
                "needs a number in load_s; found '2'",
                "needs a number in load_s; found True",
                "needs a finite number >= 0 in round; found 1180591620717411303424",
                "knows no field speed",
                "needs a record of measurement, check, served, failure, unserved; found 'rumour'",
                "needs an object in identity; found None",
                "needs a whole number in identity.device_count; found 1.5",
                "a cut needs the form 6/32; found 'six'",
                "a cut has fewer layers than the model; found 32/32",
                "needs an object of texts in environment; found {'torch': 2}",
                "needs one of right, lossy, wrong, unchecked in agreement.verdict; found 'maybe'",
                "cells[0].workload: a workload needs prompt tokens >= 1; found 0",
                "needs a number in cells[0].samples[0].ttft_s; found None",
                "needs finite numbers; found NaN",
            ]
        )
    )
    assert list(cache.all()) == [measured(1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a cache export: its first line is ''"),
        ("candidate,seconds\n", "this is not a cache export: its first line is 'candidate,seconds'"),
        ('{"format": "other"}\n', 'this is not a cache export: its first line is \'{"format": "other"}\''),
        (
            '{"format": "autobackend-cache", "version": 6}\n',
            "the export has format version 6; this autobackend reads 1, 2, 3, 4 and 5",
        ),
    ],
)
def test_what_is_no_export_is_refused(cache: Cache, text: str, message: str) -> None:
    with pytest.raises(CacheError) as caught:
        cache.import_(StringIO(text))
    assert caught.value.message == message


def test_an_import_that_breaks_off_takes_nothing_in(cache: Cache) -> None:
    def broken() -> Iterator[str]:
        yield from lines(*map(measured, range(1000))).splitlines()
        raise OSError("the pipe broke")

    with pytest.raises(OSError, match="the pipe broke"):
        cache.import_(broken())
    assert list(cache.all()) == []
