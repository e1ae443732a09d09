"""`explain --host`, `explain --all-hosts`, `select --host`, and the files and the library that they take."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from selector.cli import main
from selector.context import DEFAULT
from selector.machines.public_machines import machine_names

MODEL = "shape:smollm2-135m"
H100 = "NVIDIA H100 80GB HBM3, 79.1 GiB of 79.6 GiB free, compute capability 9.0, reads 3,350 GB/s"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="autobackend")


def test_explain_for_a_machine_of_the_library() -> None:
    lines = run("explain", "shape:qwen3-8b", "--host", "host:h100-sxm-80gb").stdout.splitlines()
    assert lines[:5] == [
        f"what if   host:h100-sxm-80gb: {H100}",
        "assumed   every backend is installed there in a version that works, with libraries and drivers that load",
        "          the driver keeps 600 MiB, and no other program is on the GPU",
        "          the computer around the GPU is large enough to load and to convert the model",
        "",
    ]
    first = " ".join(" ".join(lines[5:8]).split())
    assert re.match(
        r"runs there turbomind:default \d\d\.\d GiB of 79\.1 GiB; TPOT at least 4\.5\d ms; weights 15\.\d,"
        r" KV cache 0\.1, rest 1\.0 GiB; room for 40,960 tokens or b\d{3} ",
        first,
    )
    assert any(line.startswith("not by this backend   llamacpp") for line in lines[6:])
    assert not any(re.search(r"\bhere\b", line.split("   ")[0]) for line in lines)


def test_explain_json_says_what_it_assumes() -> None:
    told = json.loads(run("explain", "shape:qwen3-8b", "--host", "host:l4 x2", "--json").stdout)
    assert told["device"] == "NVIDIA L4"
    assert (told["what_if"]["host"], told["what_if"]["bandwidth_gbs"]) == ("host:l4 x2", 300.0)
    assert told["what_if"]["sources"]["capability"] == "https://developer.nvidia.com/cuda-gpus"
    turbomind = next(v for v in told["verdicts"] if v["backend"] == "turbomind")
    assert (turbomind["legal"], turbomind["group"], turbomind["reasons"]) == (True, "runs there", [])
    assert turbomind["needed_bytes"] == sum(turbomind["memory"].values())
    assert turbomind["memory"]["weights_bytes"] == pytest.approx(2 * 8.19e9, rel=0.01)
    assert turbomind["memory"]["overhead_bytes"] == 1 << 30
    # 2 x 8 heads x 128 x 36 layers x 2 bytes a token, of 640 tokens a sequence, in what is left of 21.9 GiB.
    assert (turbomind["longest_context_tokens"], turbomind["largest_batch"]) == (40_960, 64)
    refused = [v for v in told["verdicts"] if not v["legal"]]
    assert {(v["longest_context_tokens"], v["largest_batch"]) for v in refused} == {(None, None)}
    assert turbomind["least_tpot_s"] == pytest.approx(0.0507, rel=0.01)


def test_explain_of_this_machine_has_nothing_of_that() -> None:
    told = json.loads(run("explain", MODEL, "--json").stdout)
    assert "what_if" not in told
    assert all("least_tpot_s" not in verdict for verdict in told["verdicts"])


def test_idle_gpus_are_told() -> None:
    lines = run("explain", "shape:qwen3-8b", "--host", "host:l4 x2").stdout.splitlines()
    assert lines[0].startswith("what if   host:l4 x2: 2 x NVIDIA L4, ")
    assert lines[1] == "          1 of the 2 idle (--tensor-parallel 2 uses all)"
    assert "idle" not in run("explain", "shape:qwen3-8b", "--host", "host:l4 x2", "--tensor-parallel", 2).stdout


def test_a_file_of_this_host_explains_as_this_host_does_but_for_what_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    file.write_text(run("host", "--json", "--packages").stdout)
    told = json.loads(run("explain", MODEL, "--host", file, "--json").stdout)
    assert told["device"] == DEFAULT.host().device.name
    here = json.loads(run("explain", MODEL, "--json").stdout)
    legal = {v["variant"] for v in here["verdicts"] if v["backend"] == "transformers" and v["legal"]}
    assert legal
    assert {v["variant"] for v in told["verdicts"] if v["backend"] == "transformers" and v["legal"]} == legal


def test_all_hosts() -> None:
    found = run("explain", "shape:qwen3-30b-a3b", "--all-hosts")
    assert (found.exit_code, found.stderr) == (0, "")
    table, summary = found.stdout.split("\n\n")
    head, *rows = (re.split(r"  +", line) for line in table.splitlines())
    assert head == ["host", "free", "candidates", "first", "then", "refused"]
    by_host = {row[0]: row[1:] for row in rows}
    assert by_host.keys() == {f"host:{name}" for name in machine_names()}
    assert by_host["host:h100-sxm-80gb"][2:4] == ["turbomind:default", "pytorch, vllm, transformers"]
    on_gpus = "memory: turbomind, pytorch, vllm, transformers (57.7 GiB)"
    assert by_host["host:rtx-4090"] == ["23.4 GiB", "-", "-", f"model: ctranslate2; {on_gpus}"]
    assert by_host["host:v100"] == [
        "15.4 GiB",
        "-",
        "-",
        "model: ctranslate2; compute capability: vllm; memory: turbomind, pytorch, transformers (57.7 GiB)",
    ]
    assert by_host["host:graviton3"][2:] == [
        "openvino:fp16-pa",
        "transformers",
        "model: onnxruntime, ctranslate2; instructions: llamacpp, vllm",
    ]
    able = sum(row[1] != "-" for row in by_host.values())
    assert 0 < able < len(machine_names())
    assert summary.startswith(
        f"{able} of {len(machine_names())} machines can run shape:qwen3-30b-a3b for pp512:tg128:b1, by the rules alone:"
    )


def test_all_hosts_json() -> None:
    told = json.loads(run("explain", MODEL, "--all-hosts", "--json").stdout)
    assert (told["model"], told["workload"], len(told["hosts"])) == (MODEL, "pp512:tg128:b1", len(machine_names()))
    t4 = next(host for host in told["hosts"] if host["host"] == "host:t4")
    assert t4["first"] == t4["candidates"][0]["candidate"]
    turbomind = next(refused for refused in t4["refused"] if refused["candidate"] == "turbomind:default")
    assert turbomind == {
        "candidate": "turbomind:default",
        "obstacle": "compute capability",
        "reasons": ["needs compute capability 8.0 or newer for bfloat16; found 7.5 (Tesla T4)"],
    }


def test_all_hosts_with_several_gpus_each() -> None:
    told = json.loads(run("explain", "shape:qwen3-8b", "--all-hosts", "--tensor-parallel", 2, "--json").stdout)
    hosts = {host["host"]: host for host in told["hosts"]}
    assert hosts["host:l4 x2"]["first"] == "turbomind:default"
    assert hosts["host:epyc-genoa"]["first"] is None
    vllm = next(refused for refused in hosts["host:epyc-genoa"]["refused"] if refused["candidate"] == "vllm:eager")
    assert (vllm["obstacle"], vllm["reasons"]) == ("device", ["needs 2 devices of one product; found 1"])


def test_select_for_another_machine(tmp_path: Path) -> None:
    given = ["select", "shape:qwen3-8b", "--host", "host:h100-sxm-80gb", "--cache", tmp_path / "cache.db"]
    found = run(*given)
    assert (found.exit_code, found.stdout) == (0, "turbomind:default\n")
    assumed, warning = found.stderr.splitlines()
    assert assumed.startswith("note: assumed of host:h100-sxm-80gb: every backend is installed there ")
    assert warning.startswith("warning: shape:qwen3-8b was never measured on host:h100-sxm-80gb; ")
    why = run(*given, "--why").stdout.splitlines()
    assert why[0].startswith("what if   host:h100-sxm-80gb: NVIDIA H100 80GB HBM3, ")
    assert why[5] == "turbomind:default, the first of the static order, for pp512:tg128:b1"
    told = json.loads(run(*given, "--json").stdout)
    assert (told["candidate"], told["source"], told["what_if"]["host"]) == (
        "turbomind:default",
        "rules",
        "host:h100-sxm-80gb",
    )


def test_the_library_is_listed() -> None:
    head, *rows = run("host", "--library").stdout.splitlines()
    assert head.split()[:5] == ["host", "device", "memory", "free", "reads"]
    assert [row.split()[0] for row in rows if "GeForce RTX 5090" in row] == ["host:rtx-5090"]
    assert len(rows) == len(machine_names())
    told = json.loads(run("host", "--library", "--json").stdout)
    assert {machine["host"] for machine in told} == {f"host:{name}" for name in machine_names()}
    assert all(machine["sources"] for machine in told)


FOR_HERE = "error: --command, --emit and --observed are for this machine; found --host host:l4 beside one of them\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["explain", MODEL, "--host", "host:h100"], "error: there is no machine host:h100\ndid you mean host:h100-"),
        (
            ["explain", MODEL, "--host", "host:x", "--all-hosts"],
            "error: --all-hosts looks at every machine; found --host host:x beside it\nleave one out\n",
        ),
        (
            ["explain", MODEL, "--host", "none.json"],
            "error: none.json cannot be read: No such file or directory\nwrite one on that machine: ",
        ),
        (["explain", MODEL, "--host", ""], "error: needs a machine like host:NAME or 'host:NAME x2'; found ''\n"),
        (["select", MODEL, "--host", "host:l4", "--command"], FOR_HERE),
        (["select", MODEL, "--host", "host:l4", "--emit", "compose"], FOR_HERE),
        (["select", MODEL, "--host", "host:l4", "--observed"], FOR_HERE),
        (["host", "--packages"], "error: --packages is for a file that --host reads; found no --json beside it\n"),
        (["host", "--library", "--probe"], "error: --library lists other machines; found --probe or --packages beside"),
    ],
)
def test_errors(words: list[str], sentence: str) -> None:
    found = run(*words)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(sentence)
