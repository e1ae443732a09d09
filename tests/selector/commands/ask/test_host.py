"""`autobackend host`: this machine, and its probe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from selector.host.spec import HostSpec
from selector.predict.limits.probe import probe_of
from tests.calibration.probes import probed
from tests.selector.commands.calling import program, run


def test_host_shows_its_probe(host: HostSpec, tmp_path: Path) -> None:
    given = ["--cache", tmp_path / "cache.db"]
    assert "probe   none yet (autobackend host --probe)\n" in run("host", *given).stdout
    assert json.loads(run("host", "--json", *given).stdout)["probe"] is None
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add_probe(probed(1, host=host.identifier, disturbed=("memory",)))
        cache.add_probe(probed(2, host="elsewhere"))
    assert run("host", *given).stdout.splitlines()[5:] == [
        "reads     40.0 GB/s, one core 25.0",
        "float32   200 GFLOP/s, one core 100",
        "bfloat16  800 GFLOP/s, one core 400",
        "int8      1,600 GOP/s, one core 800",
        "float16   no rate: not implemented for 'Half'",
        "probed    2026-09-21 in 13.5 s, by torch 2.13.0",
        "          other programs used the CPU meanwhile: memory may reach more",
    ]
    told = json.loads(run("host", "--json", *given).stdout)["probe"]
    assert (told["probe_id"], told["bandwidth_gbs"]["all_cores"]) == (probed(1).probe_id, 40.0)


@pytest.mark.engine
def test_host_takes_its_probe_and_keeps_it(tmp_path: Path, host: HostSpec) -> None:
    """A busy program disturbs it, so an older one that nothing disturbed counts still."""
    quiet = probed(1, host=host.identifier)
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add_probe(quiet)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = program("host", "--probe", "--json", "--cache", tmp_path / "cache.db", env=environment)
        busy.kill()
    assert done.returncode == 0, done.stderr
    first, second = done.stderr.splitlines()
    assert first.startswith("note: probing ")
    assert second == ("note: other programs disturbed it: the probe of 2026-09-21, which nothing disturbed, counts")
    told = json.loads(done.stdout)
    assert (told["probe"]["host"], "memory" in told["probe"]["disturbed"]) == (told["identifier"], True)
    with Cache.open(tmp_path / "cache.db") as cache:
        older, taken = cache.probes(host.identifier)
        assert probe_of(host.identifier, cache) == older == quiet
    assert taken.to_json() == told["probe"]


def test_host(host: HostSpec) -> None:
    assert f"cores   {host.cores}\n" in run("host").stdout
    told = json.loads(run("host", "--json").stdout)
    assert (told["identifier"], told["devices"][0]["name"]) == (host.identifier, host.device.name)
