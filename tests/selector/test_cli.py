"""The command: answers on stdout, everything else on stderr, an exit code for each error."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from calibration import errors
from selector.commands import ask
from tests.selector.commands.calling import MODEL, run

COMMANDS = [
    "",
    "calibrate",
    "select",
    "explain",
    "map",
    "host",
    "backends",
    "rules",
    "shapes",
    "publish",
    "cache",
    "artifacts",
    "check",
]

COMMANDS += [f"cache {name}" for name in ("list", "show", "path", "export", "import", "prune", "check")]

COMMANDS += ["artifacts list", "artifacts prune"]

COMMANDS += [f"backends {name}" for name in ("list", "install", "remove", "use")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(command: str, option: str) -> None:
    found = run(*command.split(), option)
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.startswith(f"Usage: {' '.join(['autobackend', *command.split()])} ")


def test_a_command_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greet.py").write_text(
        'import click\n\n@click.command()\ndef greet():\n    """Greet."""\n    print("hi")\n'
    )
    monkeypatch.setattr(ask, "__path__", [*ask.__path__, str(tmp_path)])
    assert re.search(r"^  greet +Greet\.$", run("--help").stdout, re.MULTILINE)
    assert run("greet").stdout == "hi\n"


def test_every_exit_code_is_in_the_help() -> None:
    shown = dict(re.findall(r"^ +(\d+)  (\w+): ", run("--help").stdout, re.MULTILINE))
    assert shown == {str(kind.exit_code): kind.__name__ for kind in errors.kinds()}


def test_version() -> None:
    found = run("--version")
    assert (found.exit_code, found.stdout.partition(" ")[0]) == (0, "autobackend")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["select", "shape:nope"], 3, "error: there is no shape 'nope'\n"),
        (["select", "/no/such/folder"], 3, "error: "),
        (["select", MODEL, "--backend", "foo"], 2, "error: unknown backend 'foo'\nknown are: "),
        (["select", MODEL, "--backend", "turbomind"], 6, f"error: turbomind cannot run {MODEL}\n  needs "),
        (["select", MODEL, "--strict"], 7, f"error: {MODEL} was never measured on this host\nmeasure it: "),
        (
            ["select", MODEL, "--workload", "foo"],
            2,
            "error: unknown workload 'foo'\na batch is written as pp512:tg128:b1",
        ),
        (["select", MODEL, "--objective", "foo"], 2, "error: unknown objective 'foo'\nknown are: latency, "),
        (["select"], 2, "error: Missing argument 'MODEL'.\nsee autobackend select --help\n"),
        (["select", MODEL, "--foo"], 2, "error: No such option"),
        (["foo"], 2, "error: No such command 'foo'.\nsee autobackend --help\n"),
        (["explain", "shape:nope"], 3, "error: there is no shape 'nope'\n"),
        (["calibrate", MODEL, "--backends", "foo"], 2, "error: unknown backend 'foo'\n"),
        (["calibrate", MODEL, "--backends", "transformers:foo"], 2, "error: unknown variant 'transformers:foo'\n"),
        (["calibrate", MODEL, "--rounds", "0"], 2, "error: Invalid value for '--rounds'"),
        (["calibrate", MODEL, "--budget", "-1"], 2, "error: Invalid value for '--budget'"),
        (["cache", "show", MODEL], 2, f"error: the cache has no launch of {MODEL}\nmeasure it: "),
        (["cache", "prune"], 2, "error: needs to be told what to forget; found no condition\n"),
        (["cache", "prune", "--version", "torch"], 2, "error: needs PACKAGE=VERSION; found 'torch'\n"),
        (["cache", "import", "/no/such/file"], 2, "error: Invalid value for 'FILES...'"),
        (["publish", "--out", "/proc/results"], 4, "error: /proc/results cannot be written: "),
    ],
)
def test_errors(words: list[str], code: int, sentence: str, tmp_path: Path) -> None:
    found = run(*words, AUTOBACKEND_CACHE=str(tmp_path / "cache.db"))
    assert (found.exit_code, found.stdout) == (code, "")
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("command", [["select", MODEL], ["cache", "list"], ["cache", "check"], ["publish"]])
def test_a_cache_that_is_a_folder(command: list[str], tmp_path: Path) -> None:
    found = run(*command, "--cache", tmp_path)
    assert (found.exit_code, found.stdout) == (4, "")
    assert found.stderr.startswith("error: the cache ")


def test_a_corrupt_cache_is_set_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    content = b"SQLite format 3\0" + b"garbage" * 1000
    path.write_bytes(content)
    selection = run("select", MODEL, "--cache", path)
    assert selection.exit_code == 0
    (aside,) = tmp_path.glob("cache.db.corrupt-*")
    assert aside.read_bytes() == content
    assert selection.stderr.splitlines()[0] == (
        f"warning: the cache {path} is corrupt (file is not a database);"
        f" it was set aside as {aside.name} and a new one is begun"
    )


@pytest.mark.parametrize("words", [["explain", MODEL, "--all-hosts"], ["--help"]])
@pytest.mark.parametrize("streams", ["stdout", "stdout and stderr"])
def test_a_reader_that_has_what_it_wanted_is_no_error(words: list[str], streams: str) -> None:
    """As in `autobackend explain MODEL --all-hosts | head -1`."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", "from autobackend import main; main()", *words],
            stdout=write,
            stderr=write if "stderr" in streams else subprocess.PIPE,
            timeout=300,
            check=False,
        )
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr or b"") == (0, b"")
