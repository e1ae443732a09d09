"""The command: answers on stdout, everything else on stderr, an exit code for each error."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calibration import errors
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore, Watched
from calibration.measurement import FailureKind
from calibration.workload import Workload
from selector import commands
from selector.cli import main
from selector.context import DEFAULT
from selector.host.spec import HostSpec
from selector.identity import identity
from selector.model.spec import ModelSpec
from selector.predict.limits.probe import probe_of
from tests.calibration.probes import probed
from tests.selector.launches import failure, rounds

ROOT = Path(__file__).resolve().parents[2]
MODEL = "shape:smollm2-135m"
SDPA, EAGER = "transformers:sdpa", "transformers:eager"
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


@pytest.fixture(scope="module")
def host() -> HostSpec:
    return DEFAULT.host()


@pytest.fixture
def path(tmp_path: Path, host: HostSpec) -> Path:
    """A cache with launches of this very host: sdpa twice as fast as eager, and a failure."""
    key = identity(ModelSpec.read(MODEL), host)
    place = tmp_path / "cache.db"
    with Cache.open(place) as cache:
        cache.add(
            *rounds(SDPA, key, host, (1.0, 1.0, 1.0)),
            *rounds(EAGER, key, host, (2.0, 2.0, 2.0)),
            failure("ctranslate2:float32", key, host, kind=FailureKind.TIMED_OUT, message="no answer within 900 s"),
        )
    return place


def run(*words: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, [str(w) for w in words], prog_name="autobackend")


def program(*words: object, **popen: object) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own."""
    code = "from selector.cli import main; main(prog_name='autobackend')"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **popen)  # type: ignore[call-overload,no-any-return]


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
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert re.search(r"^  greet +Greet\.$", run("--help").stdout, re.MULTILINE)
    assert run("greet").stdout == "hi\n"


def test_every_exit_code_is_in_the_help() -> None:
    shown = dict(re.findall(r"^ +(\d+)  (\w+): ", run("--help").stdout, re.MULTILINE))
    assert shown == {str(kind.exit_code): kind.__name__ for kind in errors.AutobackendError.__subclasses__()}


def test_version() -> None:
    found = run("--version")
    assert (found.exit_code, found.stdout.partition(" ")[0]) == (0, "autobackend")


PROMISING = re.compile(
    r"note: \S+:\S+ was not measured; it is predicted to be \S+ times faster \(P 0\.\d+\)\."
    rf" Measure it: autobackend calibrate {MODEL}.*\n"
)
"""Of the launches in these caches nothing is as fast as real engines."""


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
        "stale", "layers", "prediction",
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


def test_rules() -> None:
    told = json.loads(run("rules", "--json").stdout)
    assert [line.split()[0] for line in run("rules").stdout.splitlines()] == [r["rule"] for r in told]


def test_shapes() -> None:
    lines = run("shapes").stdout.splitlines()
    assert lines[1].split() == ["shape:gpt2", "GPT2LMHeadModel", "124", "M", "12", "0.5", "GiB", "float32"]
    assert len(json.loads(run("shapes", "--json").stdout)) == len(lines) - 1


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


def test_artifacts(tmp_path: Path) -> None:
    given = {"AUTOBACKEND_ARTIFACTS": str(tmp_path)}
    empty = run("artifacts", "list", **given)
    assert (empty.stdout, empty.stderr) == ("", f"no artifacts in {tmp_path}\n")
    key = {"kind": "converted", "model": MODEL, "backend": "ctranslate2", "variant": "float32"}

    def build(folder: Path) -> Watched:
        (folder / "x").write_text("1" * 1000)
        return Watched(peak_memory_bytes=5 << 29)

    ArtifactStore(tmp_path).make(key, build)
    lines = run("artifacts", "list", **given).stdout.splitlines()
    assert lines[0].split() == ["kind", "model", "backend", "size", "made", "in", "memory", "made"]
    assert lines[1].split()[:3] == ["converted", MODEL, "ctranslate2:float32"]
    assert " 2.5 GiB  just now" in lines[1]
    (told,) = json.loads(run("artifacts", "list", "--json", **given).stdout)
    assert (told["key"], told["peak_memory_bytes"]) == (key, 5 << 29)
    assert run("artifacts", "prune", "--kind", "checkpoint", **given).stdout == "deleted 0 artifacts, 0 MiB\n"
    ArtifactStore(tmp_path).make({"kind": "cut", "model": MODEL, "cut": "3/30"}, build)
    assert (
        run("artifacts", "list", **given).stdout.splitlines()[1].startswith(f"cut        {MODEL}, 3 of 30 layers  -  ")
    )
    assert run("artifacts", "prune", "--kind", "cut", **given).stdout.startswith("deleted 1 artifact, ")
    assert run("artifacts", "prune", **given).stdout.startswith("deleted 1 artifact, ")
    assert ArtifactStore(tmp_path).list() == []


def test_artifacts_of_one_model_or_of_models_that_are_gone_are_pruned_alone(tmp_path: Path) -> None:
    given = {"AUTOBACKEND_ARTIFACTS": str(tmp_path / "store")}
    store = ArtifactStore(tmp_path / "store")
    there, hub = str(tmp_path), "owner/name"
    for model in (there, str(tmp_path / "gone"), "shape:no-such-shape", MODEL, hub, "./relative"):
        store.make({"kind": "converted", "model": model}, lambda folder: (folder / "x").write_bytes(bytes(1 << 20)))
    store.make({"kind": "checkpoint", "model": MODEL}, lambda folder: None)
    (store.root / "converted-0.part-1").mkdir()
    said = run("artifacts", "list", **given).stderr.splitlines()
    assert re.sub(r"[\d.]+ GiB free", "N GiB free", said[0]) == (
        f"7 artifacts, 6 MiB (0 MiB checkpoint, 6 MiB converted) in {store.root}; N GiB free"
    )
    assert said[1] == "unfinished: 1 artifact, 0 MiB; what killed makers left goes with the next prune"
    assert run("artifacts", "prune", "--gone", **given).stdout == "deleted 2 artifacts, 2 MiB\n"
    assert store.unfinished() == []
    assert run("artifacts", "prune", "--model", MODEL, **given).stdout == "deleted 2 artifacts, 1 MiB\n"
    assert {a.key["model"] for a in store.list()} == {there, hub, "./relative"}


def test_publish(path: Path, tmp_path: Path, host: HostSpec) -> None:
    out = tmp_path / "results"
    found = run("publish", "--cache", path, "--out", out)
    assert found.stdout.splitlines() == [
        str(out / "hosts" / f"{host.identifier}.json"),
        str(out / "matrix.md"),
        str(out / "matrix.html"),
        str(out / "hosts" / f"{host.identifier}.md"),
    ]


def test_a_reader_that_leaves_is_no_error(path: Path) -> None:
    code = "from selector.cli import main; main(prog_name='autobackend')"
    words = [sys.executable, "-c", code, "cache", "export", "--cache", str(path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout and running.stderr
        running.stdout.close()
        said = running.stderr.read().decode()
    assert "Traceback" not in said and "Broken" not in said
    assert running.returncode in {0, 1}


def test_the_program_in_a_process_of_its_own(path: Path) -> None:
    found = program("select", MODEL, "--cache", path)
    assert (found.returncode, found.stdout) == (0, "transformers:sdpa\n")
    assert PROMISING.fullmatch(found.stderr)
    failed = program("select", MODEL, "--backend", "turbomind")
    assert (failed.returncode, failed.stdout) == (6, "")
    assert failed.stderr.startswith("error: turbomind cannot run ")


def test_an_interrupt_is_exit_code_130(tmp_path: Path) -> None:
    """Ctrl-C while the command waits for its input; what it did before stands."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"format": "autobackend-cache", "version": 2}\n')
    # A shell lets its background jobs ignore Ctrl-C, and their children after them: this test may be such a child.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from selector.cli import main; main(prog_name='autobackend')"
    words = [sys.executable, "-c", code, "cache", "import", str(file), "-", "--cache", str(tmp_path / "cache.db")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout and running.stderr
        assert running.stdout.readline() == f"{file}: 0 launches added, 0 known already\n"
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert (running.returncode, said.strip()) == (130, "interrupted; what was measured is kept")


@pytest.mark.engine
def test_calibrate_then_select(tmp_path: Path) -> None:
    from calibration.checkpoints.random_weights import write_random_checkpoint

    config = json.loads((ModelSpec.read(MODEL).folder / "config.json").read_text())
    small = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 512}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text(json.dumps({**config, **small}))
    model = tmp_path / "model"
    model.mkdir()
    write_random_checkpoint(tmp_path / "config", model)

    given = ["--cache", tmp_path / "cache.db", "--workload", "pp16:tg40:b2"]
    words = ["calibrate", model, *given, "--backends", SDPA, "--rounds", 1]
    # Locks of devices lie in the temporary folder: a calibration of the user's own is no reason to fail.
    apart = {**os.environ, "TMPDIR": str(tmp_path)}
    done = program(*words, env=apart)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["candidate", "launches"]
    assert done.stdout.splitlines()[1].split()[:2] == [SDPA, "1"]
    assert re.search(rf"^{SDPA} answers pp16:tg40:b2 in .+; nothing else was measured\.$", done.stdout, re.MULTILINE)
    assert re.search(r"^candidates +transformers:sdpa$", done.stderr, re.MULTILINE)
    assert re.search(
        r"^probing the machine, once, .+\nit reads .+ GB/s; multiplies .+; took .+ s", done.stderr, re.MULTILINE
    )
    assert f"Next: autobackend select {model}" in done.stderr
    assert run("select", model, *given).stdout == f"{SDPA}\n"

    again = json.loads(program(*words, "--json", env=apart).stdout)
    assert (again["measured"], again["reused"], again["unmeasured"]) == (0, 1, [])
    assert again["selections"][0]["candidate"] == SDPA
