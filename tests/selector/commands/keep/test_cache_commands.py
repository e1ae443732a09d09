"""Each command of `autobackend cache`, one after another."""

import json
from pathlib import Path

from selector.host.spec import HostSpec
from tests.selector.commands.calling import MODEL, run


def test_cache_commands(path: Path, tmp_path: Path, host: HostSpec) -> None:
    given = ["--cache", path]
    assert run("cache", "path", *given).stdout == f"{path}\n"
    head, line = run("cache", "list", *given).stdout.splitlines()
    assert head.split() == ["model", "architecture", "quant", "device", "host", "launches", "failed", "newest"]
    assert line.startswith(f"{MODEL}  LlamaForCausalLM  none ")
    (told,) = json.loads(run("cache", "list", *given, "--json").stdout)
    assert (told["host"], told["launches"], told["failures"]) == (host.identifier, 7, 1)

    shown = run("cache", "show", MODEL, *given).stdout.splitlines()
    assert (len(shown), [line.endswith("timed out in load: no answer within 900 s") for line in shown].count(True)) == (
        8,
        1,
    )
    assert len(json.loads(run("cache", "show", MODEL, *given, "--json").stdout)) == 7

    exported = run("cache", "export", *given)
    assert exported.stdout.splitlines()[0] == '{"format": "autobackend-cache", "version": 5}'
    assert exported.stderr == "exported 7 launches\n"
    file = tmp_path / "rows.jsonl"
    assert run("cache", "export", "--out", file, *given).stdout == ""
    assert file.read_text() == exported.stdout
    other = ["--cache", tmp_path / "other.db"]
    assert run("cache", "import", file, *other).stdout == f"{file}: 7 launches added, 0 known already\n"
    assert run("cache", "import", file, *other).stdout == f"{file}: 0 launches added, 7 known already\n"

    assert run("cache", "check", *other).stdout == f"{other[1]}: 7 launches, well\n"
    assert json.loads(run("cache", "check", *other, "--json").stdout) == {"rows": 7, "unreadable": {}, "damage": []}
    assert run("cache", "prune", "--backend", "transformers", *other).stdout == "forgot 6 launches\n"
    assert run("cache", "prune", "--older-than", "0", *other).stdout == "forgot 1 launch\n"


def test_an_import_says_what_it_left_out(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"format": "autobackend-cache", "version": 2}\n{"record": "measurement"}\nnothing\n')
    found = run("cache", "import", file, "--cache", tmp_path / "cache.db")
    assert (found.exit_code, found.stdout) == (0, f"{file}: 0 launches added, 0 known already\n")
    assert [line.split(": ")[1] for line in found.stderr.splitlines()] == [
        f"{file}, line 2, left out",
        f"{file}, line 3, left out",
    ]
