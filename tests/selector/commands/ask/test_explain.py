"""`autobackend explain`, and the lists of rules and shapes."""

import json

from selector.host.spec import HostSpec
from tests.selector.commands.calling import MODEL, run


def test_explain(host: HostSpec) -> None:
    found = run("explain", MODEL)
    assert found.exit_code == 0
    assert found.stdout.startswith("runs here now")
    assert "not by this backend   turbomind " in found.stdout
    told = json.loads(run("explain", MODEL, "--json").stdout)
    assert (told["model"], told["device"], told["workload"]) == (MODEL, host.device.name, "pp512:tg128:b1")
    sdpa = next(v for v in told["verdicts"] if (v["backend"], v["variant"]) == ("transformers", "sdpa"))
    assert (sdpa["legal"], sdpa["group"], sdpa["reasons"]) == (True, "runs here now", [])
    refused = next(v for v in told["verdicts"] if v["backend"] == "turbomind")
    assert (refused["legal"], {*refused["reasons"][0]}) == (False, {"rule", "text", "mend"})


def test_rules() -> None:
    told = json.loads(run("rules", "--json").stdout)
    assert [line.split()[0] for line in run("rules").stdout.splitlines()] == [r["rule"] for r in told]


def test_shapes() -> None:
    lines = run("shapes").stdout.splitlines()
    assert lines[1].split() == ["shape:gpt2", "GPT2LMHeadModel", "124", "M", "12", "0.5", "GiB", "float32"]
    assert len(json.loads(run("shapes", "--json").stdout)) == len(lines) - 1
