"""`autobackend map`: the answer on stdout, what it lacks on stderr, the drawing in a file."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calibration.cache.cache import Cache
from selector.cli import main
from selector.context import DEFAULT
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from tests.selector.launches import rounds

MODEL = "shape:smollm2-135m"
SDPA, EAGER = "transformers:sdpa", "transformers:eager"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache with launches of this very host: sdpa twice as fast as eager."""
    host = DEFAULT.host()
    key = identity(ModelSpec.read(MODEL), host)
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, key, host, (1.0, 1.0, 1.0)), *rounds(EAGER, key, host, (2.0, 2.0, 2.0)))
    return tmp_path / "cache.db"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["map", *map(str, words)], prog_name="autobackend")


def test_the_map_and_what_is_extrapolated(path: Path) -> None:
    found = run(MODEL, "--cache", path, "--prompts", "64:512", "--outputs", "32", "--batches", "1,8")
    assert found.exit_code == 0
    assert re.search(
        r"\nbatch 1 +batch 8\n +32 +A +A +A +A +32 +A\? +A\? +A\? +A\?\ntg / pp +64 +128 +256 +512 +tg / pp ",
        found.stdout,
    )
    assert f"\nA  {SDPA}  8 of 8  always: 1.00 times the best, at worst 1.00\n" in found.stdout
    assert found.stderr == (
        "note: 4 of 8 answers are extrapolated from what was measured. Measure its corners: autobackend calibrate"
        f" {MODEL} --workload pp64:tg32:b1 --workload pp512:tg32:b8\n"
    )


def test_json_and_svg_beside_it(path: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "map.svg"
    axes = ("--prompts", "64", "--outputs", "32", "--batches", "1")
    found = run(MODEL, "--cache", path, *axes, "--json", "--svg", drawing, "--backends", EAGER, "--ttft", 9)
    told = json.loads(found.stdout)
    assert ([c["candidate"] for c in told["cells"]], told["targets"]["ttft_s"]) == ([EAGER], 9.0)
    assert drawing.read_text().startswith("<svg ")


def test_it_takes_no_workload_and_no_broken_axis(path: Path) -> None:
    assert "No such option" in run(MODEL, "--cache", path, "--workload", "chat").stderr
    found = run(MODEL, "--cache", path, "--batches", "few")
    assert (found.exit_code, found.stderr) == (
        2,
        "error: unknown --batches 'few'\nwrite a range like 64:8192 or a list like 1,4,16\n",
    )


def test_nothing_measured_nor_predicted_is_an_error(tmp_path: Path) -> None:
    """Nothing predicts the memory that a candidate takes."""
    axes = ("--prompts", "64", "--outputs", "8", "--batches", "1")
    found = run(MODEL, "--cache", tmp_path / "empty.db", *axes, "--objective", "memory")
    assert (found.exit_code, found.stdout) == (7, "")
    measure = f"measure it: autobackend calibrate {MODEL} --workload pp64:tg8:b1 --objective memory\n"
    assert found.stderr.endswith(measure)
