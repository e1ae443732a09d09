"""A fleet for real: three nodes of a Ray cluster on this machine, of two kinds, as files say; a shared PostgreSQL."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fleet.raylets import at_work, left_running, niceness, raylets
from calibration.cache.cache import Cache
from calibration.errors import ClusterUnreachable, NoNode
from calibration.measurement import Measurement
from selector.cli import INTERRUPTED

pytest.importorskip("ray", reason="Ray is not installed: pip install 'autobackend[fleet]'")

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).resolve().parents[3]
# A shell lets its background jobs ignore Ctrl-C.
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from autobackend import main; main()"
LABEL = "transformers:sdpa"
KINDS = {"Alpha, 2 cores": ("a1", "a2"), "Beta, 2 cores": ("b1",)}
HOSTS = tuple(host for hosts in KINDS.values() for host in hosts)

WITHOUT_OURS = """
import sys

class Without:
    def find_spec(name, path=None, target=None):
        if name == "selector":
            raise ModuleNotFoundError("No module named 'selector'", name="selector")

sys.meta_path.insert(0, Without)
"""


def fleet(*words: object, address: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MAIN, "fleet", *map(str, words), "--ray", address, "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "AUTOBACKEND_CACHE"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


def answered(process: "subprocess.Popen[str]") -> tuple[list[dict[str, Any]], str]:
    """The JSON lines that a command printed, and what it said."""
    try:
        out, said = process.communicate(timeout=600)
    finally:
        process.kill()
    return [json.loads(line) for line in out.splitlines()], said


def launches(cache: str) -> Counter[str]:
    """Host: how many launches it left."""
    with Cache.open(cache) as opened:
        return Counter(one.identity.host for one in opened.all() if isinstance(one, Measurement))


def test_one_host_of_a_kind_calibrates_and_the_others_are_compared(
    tiny: Callable[..., Path], database: str, tmp_path: Path
) -> None:
    model = tiny("llama")
    words = (
        "calibrate", model, "--backends", LABEL, "--workload", "pp16:tg8:b1", "--cache", database, "--no-probe",
        "--rounds", 1,
    )  # fmt: skip
    with raylets(tmp_path, KINDS) as running:
        out, said = fleet("hosts", address=running.address).communicate(timeout=600)
        hosts = json.loads(out)
        groups = {group["device"]: len(group["hosts"]) for group in hosts["groups"]}
        assert groups == {device: len(names) for device, names in KINDS.items()}, said
        assert not hosts["unusable"]
        process = fleet(*words, address=running.address)
        first = _who_calibrates(tmp_path, HOSTS)
        assert niceness(tmp_path, first) == os.getpriority(os.PRIO_PROCESS, 0)  # not that of Ray's workers
        process.send_signal(signal.SIGINT)  # a Ctrl-C
        _, said = answered(process)
        assert process.returncode == INTERRUPTED, said
        assert "interrupted; what was measured is kept" in said
        assert _nothing_runs(tmp_path)
        process = fleet(*words, address=running.address)
        (*told, result), said = answered(process)
        assert process.returncode == 0, told
        assert "died" not in said  # Ray would say so of agents that end by themselves
        kinds = Counter(line["task"] for line in told if "task" in line)
        assert kinds["calibration"] >= 2
        assert kinds["spot check"] == 1
        by_host = launches(database)
        assert by_host == dict.fromkeys(HOSTS, 1)
        assert {one["model"] for line in told for one in line.get("doing", [])} == {str(model)}
        # Whatever came of it is not measured twice.
        *told, result = answered(fleet(*words, address=running.address))[0]
        assert launches(database) == by_host
        assert not result["given_up"]
        assert not result["unusable"]
    assert not left_running(tmp_path)


def test_a_dead_node_leaves_its_model_to_another(tiny: Callable[..., Path], database: str, tmp_path: Path) -> None:
    model = tiny("llama")
    with raylets(tmp_path, KINDS) as running:
        process = fleet(
            "calibrate", model, "--backends", LABEL, "--workload", "pp16:tg8:b1", "--cache", database, "--no-probe",
            "--rounds", 1, address=running.address,
        )  # fmt: skip
        assert process.stderr is not None
        first = _who_calibrates(tmp_path, KINDS["Alpha, 2 cores"])
        running.kill(first)
        values, said = answered(process)
        assert process.returncode == 0, said
        assert any("the node died" in line.get("said", "") for line in values)
        assert launches(database)["b1"]
        assert launches(database)[{"a1": "a2", "a2": "a1"}[first]]
    assert not left_running(tmp_path)


def test_a_head_that_dies_ends_the_command_with_a_sentence(tiny: Callable[..., Path], tmp_path: Path) -> None:
    model, cache = tiny("llama"), tmp_path / "cache.db"
    with raylets(tmp_path, KINDS) as running:
        process = fleet(
            "calibrate", model, "--backends", LABEL, "--workload", "pp16:tg8:b1", "--cache", cache, "--no-probe",
            address=running.address,
        )  # fmt: skip
        _who_calibrates(tmp_path, HOSTS)
        running.kill_head()
        _, said = answered(process)
        assert process.returncode == ClusterUnreachable.exit_code, said
        assert f"error: the head of the Ray cluster at {running.address} does not answer any more" in said
        assert "the same command goes on from what was measured" in said
        assert not left_running(tmp_path)


def test_a_node_without_the_package_is_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_OURS)
    with raylets(tmp_path, {}) as running:
        running.start("c1", PYTHONPATH=str(tmp_path))
        running.cluster.wait_for_nodes()
        process = fleet("hosts", address=running.address)
        out, said = process.communicate(timeout=600)
    assert (process.returncode, out) == (NoNode.exit_code, "")
    first, second, mend = said.splitlines()[-3:]
    assert first == "error: no node can take part"
    assert second.endswith(": autobackend does not run where Ray's workers run: No module named 'selector'")
    assert mend == "install autobackend in the environment of Ray's workers on the nodes, in this version"


def _nothing_runs(folder: Path) -> bool:
    """Whether nothing of ours runs on the nodes, or it is gone in a moment."""
    end = time.monotonic() + 30.0
    while left_running(folder) and time.monotonic() < end:
        time.sleep(0.2)
    return not left_running(folder)


def _who_calibrates(folder: Path, hosts: Sequence[str]) -> str:
    """The first of these nodes on which a command of ours runs; waits for it."""
    end = time.monotonic() + 300.0
    while time.monotonic() < end:
        for host in hosts:
            if at_work(folder, host):
                return host
    raise AssertionError("nobody calibrates")
