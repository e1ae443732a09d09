"""`autobackend select`: the answer alone on stdout; why, ties, targets."""

import json
import re
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.workload import Workload
from selector.evidence.identity import identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from tests.selector.commands.calling import EAGER, MODEL, PROMISING, SDPA, run
from tests.selector.launches import rounds


def test_select_prints_the_answer_alone(path: Path) -> None:
    found = run("select", MODEL, "--cache", path)
    assert (found.exit_code, found.stdout) == (0, "transformers:sdpa\n")
    assert PROMISING.fullmatch(found.stderr)


def test_select_json_has_the_documented_keys(path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--json", "--objective", "ttft", "--workload", "summarize")
    told = json.loads(found.stdout)
    assert list(told) == [
        "model", "architecture", "quant", "device", "candidate", "backend", "variant", "source", "workload", "trace",
        "objective", "targets", "price_per_hour", "tie", "extrapolated", "ranking", "served", "rejected", "failed",
        "stale", "layers", "inherited", "caches", "prediction",
    ]  # fmt: skip
    assert [told[k] for k in ("candidate", "source", "workload", "objective", "extrapolated")] == [
        SDPA, "measured", "pp1024:tg64:b1", "ttft", True,
    ]  # fmt: skip
    assert told["failed"] == [
        {"candidate": "ctranslate2:float32", "kind": "timed out", "message": "no answer within 900 s"}
    ]


def test_select_why(path: Path) -> None:
    lines = run("select", MODEL, "--cache", path, "--why").stdout.splitlines()
    assert re.sub(r"\d+ (day|hour|minute)s? ago", "N days ago", lines[0]) == (
        "transformers:sdpa, measured here N days ago (6 launches, 2 candidates), for pp512:tg128:b1"
    )
    assert lines[1:3] == [
        "  transformers:sdpa   3.83 ± 0.24 s  TTFT 1.03 s  TPOT 22.0 ms",
        "  transformers:eager  7.66 ± 0.48 s  TTFT 2.07 s  TPOT 44.0 ms",
    ]
    assert "  failed:        ctranslate2:float32 (timed out in load: no answer within 900 s)" in lines


def test_targets_that_nothing_meets_are_a_warning_and_with_strict_an_error(path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--ttft", 0.5, "--price", 2)
    sentence = (
        "no candidate that was measured meets TTFT <= 0.5 s; transformers:sdpa is the nearest: its TTFT of 1.03 s is"
        " 2.1 times its target for pp512:tg128:b1 (< 1 % likely to meet)"
    )
    warning, note = found.stderr.splitlines(keepends=True)
    assert (found.exit_code, found.stdout, warning) == (0, f"{SDPA}\n", f"warning: {sentence}\n")
    assert PROMISING.fullmatch(note)
    found = run("select", MODEL, "--cache", path, "--ttft", 0.5, "--strict")
    assert (found.exit_code, found.stdout, found.stderr) == (
        13,
        "",
        f"error: {sentence}\nsee all of them: autobackend select {MODEL} --ttft 0.5 --why\n",
    )
    assert run("select", MODEL, "--cache", path, "--ttft", 2, "--strict").stdout == f"{SDPA}\n"


def test_select_says_a_tie(tmp_path: Path, host: HostSpec) -> None:
    key = identity(ModelSpec.read(MODEL), host)
    with Cache.open(tmp_path / "tie.db") as cache:
        cache.add(*rounds(SDPA, key, host, (1.01, 1.01)), *rounds(EAGER, key, host, (1.0, 1.0)))
    lines = run("select", MODEL, "--cache", tmp_path / "tie.db", "--why").stdout.splitlines()
    assert lines[1] == "  as fast as transformers:eager: chosen by the static order"


def test_select_says_who_is_extrapolated(tmp_path: Path, host: HostSpec) -> None:
    """A launch that a budget cut short looks quicker, but was not timed around the workload."""
    key = identity(ModelSpec.read(MODEL), host)
    near = [Workload(prompt_tokens=64, output_tokens=32, batch=1)]
    with Cache.open(tmp_path / "part.db") as cache:
        cache.add(*rounds(SDPA, key, host, (1.0, 1.1)), *rounds(EAGER, key, host, (1.02, 0.95), cells=near))
    asked = ("select", MODEL, "--cache", tmp_path / "part.db", "--workload", "pp500:tg32:b4", "--why")
    lines = run(*asked).stdout.splitlines()
    assert lines[1] == ("  as fast as transformers:eager: chosen by its median among those timed around the workload")
    assert [line.split()[0] for line in lines[2:4]] == [SDPA, EAGER]
    assert [line.endswith("  extrapolated") for line in lines[2:4]] == [False, True]


def test_select_uncalibrated_warns_on_stderr(tmp_path: Path) -> None:
    found = run("select", MODEL, "--cache", tmp_path / "none.db")
    assert found.exit_code == 0
    assert found.stdout.count("\n") == 1
    assert re.fullmatch(
        rf"warning: {MODEL} was never measured on this host; by launches of 8 models on 6 hosts, {found.stdout.strip()}"
        r" is predicted to take \S+ s \(\S+ to \S+ s\), and is the best with a probability of (> )?\d+ %\."
        rf" Make sure: autobackend calibrate {MODEL}\n",
        found.stderr,
    )


def test_select_command(path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--command")
    assert found.stdout == f"transformers serve {MODEL} --attn-implementation sdpa --dtype auto\n"


def test_the_cache_may_be_named_by_the_environment(path: Path) -> None:
    assert run("select", MODEL, AUTOBACKEND_CACHE=str(path)).stdout == "transformers:sdpa\n"
