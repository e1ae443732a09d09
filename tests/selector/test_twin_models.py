"""A real engine on two models of one shape: the second is checked with the first's times, and not timed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.selector.twins import LLAMA, write

ROOT = Path(__file__).parents[2]
SDPA = "transformers:sdpa"

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Tiny Llamas with random weights, the second with tied embeddings."""
    from calibration.checkpoints.random_weights import write_random_checkpoint

    folders = [tmp_path / "untied", tmp_path / "tied"]
    for folder, tied in zip(folders, (False, True), strict=True):
        write(tmp_path / f"config-{tied}", {**LLAMA, "tie_word_embeddings": tied, "rms_norm_eps": 1e-6})
        folder.mkdir()
        write_random_checkpoint(tmp_path / f"config-{tied}", folder)
    return folders


def test_the_twin_is_checked_and_not_timed(tmp_path: Path, models: list[Path]) -> None:
    def autobackend(*words: object) -> "subprocess.CompletedProcess[str]":
        code = "from selector.cli import main; main(prog_name='autobackend')"
        given = ["--cache", tmp_path / "cache.db", "--workload", "pp16:tg40:b2", "--backends", SDPA]
        # Locks of devices lie in the temporary folder: a calibration of the user's own is no reason to fail.
        environment = {**os.environ, "TMPDIR": str(tmp_path), "AUTOBACKEND_ARTIFACTS": str(tmp_path / "artifacts")}
        given += ["--no-probe"] if words[0] == "calibrate" else []
        command = [sys.executable, "-c", code, *map(str, words), *map(str, given[: 4 if words[0] == "select" else 7])]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)

    untied, tied = models
    first = json.loads(autobackend("calibrate", untied, "--rounds", 1, "--json").stdout)
    assert (first["measured"], first["checked"]) == (1, 0)
    [measured] = first["outcomes"]

    before = autobackend("select", tied)
    assert before.stdout == f"{SDPA}\n"
    [warning] = warnings(before.stderr)
    assert warning == (
        f"warning: {SDPA} was timed on another model of this shape; its output is unchecked for {tied}."
        f" Check it: autobackend calibrate {tied} --workload pp16:tg40:b2"
    )

    done = autobackend("calibrate", tied, "--rounds", 1)
    assert "The times of 1 candidate were known: only the output was checked" in done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines()[:2]] == ["output", "right"]
    assert f"{SDPA}, round 1: checked, not timed again: loaded in " in done.stderr
    assert " cell " not in done.stderr

    again = json.loads(autobackend("calibrate", tied, "--rounds", 1, "--json").stdout)
    assert (again["measured"], again["checked"], again["reused"]) == (0, 0, 2)
    assert [(o["record"], o["identity"]["config"] == measured["identity"]["config"]) for o in again["outcomes"]] == [
        ("measurement", True),
        ("check", False),
    ]
    assert again["outcomes"][0] == measured
    after = autobackend("select", tied)
    assert (after.stdout, warnings(after.stderr)) == (f"{SDPA}\n", [])
    assert warnings(autobackend("select", untied).stderr) == []


def warnings(stderr: str) -> list[str]:
    """All that was said but notes, which name candidates that are predicted to be faster."""
    return [line for line in stderr.splitlines() if not line.startswith("note: ")]
