"""`autobackend cache` of models with the same shape, and of launches that checked and did not time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration.cache.cache import Cache
from selector.cli import main
from tests.calibration.probes import probed
from tests.selector.launches import DAY, LOSSY, check, model_and_host, rounds

_, HOST, KEY = model_and_host()
SDPA = "transformers:sdpa"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(
            *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
            check(SDPA, replace(KEY, config="e" * 16), HOST, model="twin", agreement=LOSSY, at=DAY + 600),
        )
    return tmp_path / "cache.db"


def run(*words: object) -> str:
    return CliRunner().invoke(main, ["cache", *map(str, words)], prog_name="autobackend").stdout


def test_show_tells_a_check_from_a_measurement(path: Path) -> None:
    _, line = run("show", "twin", "--cache", path).splitlines()
    assert line.endswith("checked, not timed: 1.0 GiB, lossy (KL 0.012)")
    (record,) = json.loads(run("show", "twin", "--cache", path, "--json"))
    assert (record["record"], record["identity"]["config"]) == ("check", "e" * 16)


def test_list_has_a_line_for_each_config(path: Path) -> None:
    listed = json.loads(run("list", "--cache", path, "--json"))
    assert [(group["model"], group["config"], group["launches"]) for group in listed] == [
        ("shape:smollm2-135m", KEY.config, 2),
        ("twin", "e" * 16, 1),
    ]
    assert [line.split()[0] for line in run("list", "--cache", path).splitlines()] == [
        "model",
        "shape:smollm2-135m",
        "twin",
    ]


def test_launches_on_a_few_layers_say_so(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with Cache.open(path) as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, replace(KEY, cut="3/30"), HOST, (0.1,), at=DAY + 600))
    assert [line.split("  ")[0] for line in run("list", "--cache", path).splitlines()[1:]] == [
        "shape:smollm2-135m",
        "shape:smollm2-135m, 3 of 30 layers",
    ]
    assert [group["cut"] for group in json.loads(run("list", "--cache", path, "--json"))] == ["", "3/30"]
    whole, shallow = run("show", "shape:smollm2-135m", "--cache", path).splitlines()[1:]
    assert "layers" not in whole
    assert "  3 of 30 layers: pp512:tg32:b1: prefill " in shallow


def test_probes_that_come_in_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    with Cache.open(tmp_path / "cache.db") as cache, file.open("w") as stream:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
        cache.add_probe(probed(1))
        cache.export(stream)
    imported = ("import", str(file), "--cache", tmp_path / "other.db")
    assert run(*imported) == f"{file}: 1 launch added, 0 known already; 1 new probe of a machine\n"
    assert run(*imported) == f"{file}: 0 launches added, 1 known already\n"
