"""The truth file, the cases that are kept, and the report: rules are judged by what loading showed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rule_truth.candidates import GGUF, LMDEPLOY, PLAIN, QUANTISED, labels_for, named
from benchmarks.rule_truth.cases.kept import Kept, append_case, kept_of, read_cases, restore
from benchmarks.rule_truth.judging import Pair, Pairing, engine_of, judged, quiet, reasons_of
from benchmarks.rule_truth.known.known import Known
from benchmarks.rule_truth.report import report_json, report_markdown
from benchmarks.rule_truth.truth import Trial, append, newest, read_trials
from benchmarks.rule_truth.warm import MOST_MODELS, Pool, WarmSession
from calibration.conversion.store import ArtifactStore
from calibration.errors import UsageError
from calibration.events import Silent
from calibration.launch.checker import Checker
from calibration.launch.launcher import Launcher
from calibration.launch.reference import reference_of
from calibration.measurement import Check, Failure, FailureKind, Outcome, OutputVerdict
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec, Skipped
from tests.calibration.tiny_engines.racing import CELLS, LIMITS, entry, subject
from tests.selector.conftest import host

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "torch_dtype": "float32",
}


def trial(case: str = "llama", candidate: str = "ctranslate2:float32", **changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "case": case, "config": f"digest-{case}", "candidate": candidate, "versions": {"ctranslate2": "4.8.5"},
        "verdict": "right",
    }  # fmt: skip
    return Trial(**(fields | changes))


def folder_of(root: Path, config: dict[str, Any]) -> Path:
    root.mkdir()
    (root / "config.json").write_text(json.dumps(config))
    (root / "model.safetensors").write_bytes(b"1" * 1000)
    return root


def test_the_truth_file_keeps_the_last_trial_of_each_pair_and_a_torn_line_is_none(tmp_path: Path) -> None:
    file = tmp_path / "rules" / "truth.jsonl"
    other_version = trial(versions={"ctranslate2": "4.7.0"})
    for each in (trial(verdict="crashed", stage="load"), other_version, trial()):
        append(file, each)
    with file.open("a") as opened:
        opened.write('{"case": "lla')
    assert list(read_trials(file).values()) == [other_version, trial()]
    assert newest(read_trials(file).values()) == [trial()]
    assert read_trials(tmp_path / "none.jsonl") == {}


@pytest.mark.parametrize(
    ("candidate", "verdict", "message", "pairing"),
    [
        ("turbomind:default", "wrong output", "token 0 differs", Pairing.UNKNOWN),
        ("turbomind:default", "timed out", "no answer", Pairing.UNKNOWN),
        ("turbomind:default", "crashed", "SIGABRT", Pairing.FALSE_YES),
        ("turbomind:default", "refused", "AssertionError", Pairing.FALSE_YES),
        ("pytorch:eager", "wrong output", "token 0 differs", Pairing.FALSE_YES),
        (
            "pytorch:eager",
            "refused",
            "RuntimeError: Build spec LinearBlockedF8BuildSpec is not supported by default backend.",
            Pairing.UNKNOWN,
        ),
    ],
)
def test_what_stand_ins_for_a_gpu_do_themselves_proves_nothing(
    candidate: str, verdict: str, message: str, pairing: Pairing
) -> None:
    tried = trial(candidate=candidate, verdict=verdict, message=message)
    assert Pair(trial=tried, reasons=()).pairing is pairing


def test_a_truth_file_of_another_form_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "truth.jsonl").write_text('{"model": "llama"}\n')
    with pytest.raises(UsageError, match=r"truth\.jsonl, line 1: .*'model'"):
        read_trials(tmp_path / "truth.jsonl")


def test_a_kept_case_is_to_the_rules_what_it_was(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", LLAMA)
    append_case(tmp_path / "cases.jsonl", kept_of("llama", "digest", "default", source))
    [kept] = read_cases(tmp_path / "cases.jsonl")
    assert kept == Kept(case="llama", config="digest", kind="default", content=LLAMA, sizes={"model.safetensors": 1000})
    restored = restore(kept, tmp_path / "restored")
    assert reasons_of(restored, host()) == reasons_of(source, host())
    assert (restored / "model.safetensors").stat().st_size == 1000


def test_pairs_are_judged_by_the_rules_of_the_host_that_their_backend_runs_on(tmp_path: Path) -> None:
    broken = Kept(case="broken", config="digest-broken", kind="default", content={"model_type": ["llama"]})
    sound = kept_of("llama", "digest-llama", "default", folder_of(tmp_path / "source", LLAMA))
    trials = [trial(), trial("broken", verdict="refused", stage="load")]
    cases = {"digest-llama": sound, "digest-broken": broken}
    pairs = list(judged(trials, cases, lambda name: {"ctranslate2": host()}[name], tmp_path / "scratch"))
    # Nothing but `fake` is installed on that host.
    assert pairs[0].reasons[0].startswith("installed: ")
    assert pairs[1].reasons[0].startswith("cannot be read: ")
    assert [pair.pairing for pair in pairs] == [Pairing.FALSE_NO, Pairing.RIGHT_NO]


def test_a_host_is_judged_with_all_its_memory_free() -> None:
    assert quiet(host()).device.free_bytes == host().device.memory_bytes != host().device.free_bytes


def test_rules_and_truth_agree_or_one_of_four_things_is_wrong() -> None:
    refused = ("knows_architecture: needs one of 3; found Odd",)
    assert {
        (verdict, legal): Pair(trial=trial(verdict=verdict), reasons=() if legal else refused).pairing
        for verdict in ("right", "lossy", "wrong output", "unchecked", "unread")
        for legal in (True, False)
    } == {
        ("right", True): Pairing.RIGHT_YES,
        ("right", False): Pairing.FALSE_NO,
        ("lossy", True): Pairing.RIGHT_YES,
        ("lossy", False): Pairing.FALSE_NO,
        ("wrong output", True): Pairing.FALSE_YES,
        ("wrong output", False): Pairing.RIGHT_NO,
        ("unchecked", True): Pairing.UNKNOWN,
        ("unchecked", False): Pairing.UNKNOWN,
        ("unread", True): Pairing.UNKNOWN,
        ("unread", False): Pairing.FALSE_NO,
    }


def test_what_an_engine_says_of_a_cases_tokenizer_tells_nothing_of_the_rules() -> None:
    beyond = (
        "ValueError: needs token ids below vocab_size (320); transformers reads the tokenizer of x as Qwen2Tokenizer"
    )
    refused = trial(candidate="llamacpp:f32", verdict="refused", stage="prepare", message=beyond)
    assert Pair(trial=refused, reasons=()).pairing is Pairing.UNKNOWN


def test_the_report_counts_by_engine_and_names_each_disagreement_with_its_cause() -> None:
    reasons = ("knows_architecture: needs a | b; found Odd",)
    pairs = [
        Pair(trial=trial("llama"), reasons=()),
        Pair(trial=trial("odd"), reasons=reasons),
        Pair(trial=trial("gone", verdict="refused", stage="load", message="ValueError: no"), reasons=()),
        Pair(trial=trial("llama", "openvino:fp32-pa", verdict="wrong output", message="diverges"), reasons=()),
    ]
    cases = {f"digest-{name}": Kept(case=name, config="", kind="default") for name in ("llama", "odd", "gone")}
    lines = report_markdown(pairs, cases, Known(), []).splitlines()
    assert lines[5:9] == [
        "| engine | pairs | agree | right yes | right no | false yes | false no | explained | unknown |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| ctranslate2 | 3 | 33% | 1 | 0 | 1 | 1 | 0 | 0 |",
        "| openvino-pa | 1 | 0% | 0 | 0 | 1 | 0 | 0 | 0 |",
    ]
    assert lines[10:] == [
        "## Legal, but it fails or is wrong",
        "",
        "| candidate | case | kind | cause |",
        "| --- | --- | --- | --- |",
        "| `ctranslate2:float32` | `gone` | default | refused (load): ValueError: no |",
        "| `openvino:fp32-pa` | `llama` | default | wrong output: diverges |",
        "",
        "## Refused, but right",
        "",
        "| candidate | case | kind | cause |",
        "| --- | --- | --- | --- |",
        "| `ctranslate2:float32` | `odd` | default | knows_architecture: needs a \\| b; found Odd |",
        "",
        "## Legal, but it fails or is wrong: explained",
        "",
        "None.",
        "",
        "## Refused, but right: explained",
        "",
        "None.",
    ]
    told = report_json(pairs, Known())
    assert told["engines"]["openvino-pa"]["false yes"] == 1
    assert [(d["case"], d["pairing"]) for d in told["disagreements"]] == [
        ("odd", "false no"), ("gone", "false yes"), ("llama", "false yes"),
    ]  # fmt: skip


def test_each_engine_is_tried_in_its_most_exact_variant() -> None:
    wide, half = {"torch_dtype": "float32"}, {"torch_dtype": "float16"}
    fp32, fp16 = ("openvino:fp32-sdpa", "openvino:fp32-pa"), ("openvino:fp16-sdpa", "openvino:fp16-pa")
    assert labels_for("", wide, lmdeploy=False) == tuple(label for label in PLAIN if label not in fp16)
    assert labels_for("gptq-4bit", half, lmdeploy=False) == tuple(label for label in QUANTISED if label not in fp32)
    assert labels_for("gguf-q8_0", {}, lmdeploy=False) == GGUF
    assert labels_for("", half, lmdeploy=True) == labels_for("awq-4bit", half, lmdeploy=True) == LMDEPLOY
    assert labels_for("gguf-f16", {}, lmdeploy=True) == ()
    assert named(PLAIN, ["openvino", "llamacpp:f32"]) == ("llamacpp:f32", *fp32, *fp16)
    assert named(PLAIN, []) == PLAIN
    assert [engine_of(label) for label in ("openvino:gguf-pa", "llamacpp:f32")] == ["openvino-pa", "llamacpp"]


def launched(folder: Path, pool: Pool, spec: LaunchSpec) -> Outcome | Skipped:
    folder.mkdir(exist_ok=True)
    session = WarmSession(
        calibration_id="test",
        subject=subject(folder),
        cells=CELLS,
        store=ArtifactStore(folder / "artifacts"),
        folder=folder,
        reporter=Silent(),
        limits=LIMITS,
        deadline=Deadline(None, time.monotonic),
        pool=pool,
    )
    checker = Checker(session=session, make_reference=reference_of(entry("reference")))
    return Launcher(session=session, checker=checker).check(spec, 1).outcome


def models(pool: Pool) -> list[int]:
    """How many models each worker that waits has opened."""
    return [lent.models for lent in pool._waiting.values()]


def test_a_worker_loads_one_model_after_another_until_one_goes_wrong(tmp_path: Path) -> None:
    pool = Pool()
    try:
        outcomes = [launched(tmp_path, pool, entry("right"))]
        assert models(pool) == [2], "the reference and the candidate"
        outcomes.append(launched(tmp_path, pool, entry("refuses", load="refuse")))
        assert models(pool) == [3]
        outcomes.append(launched(tmp_path, pool, entry("converted", prepares=True)))
        assert models(pool) == [5]
        outcomes.append(launched(tmp_path, pool, entry("wrong", off_by_one=True)))
        assert models(pool) == []
        outcomes.append(launched(tmp_path, pool, entry("right")))
        outcomes.append(launched(tmp_path, pool, entry("segfaults", load="segfault")))
        assert models(pool) == []
    finally:
        pool.end()
    assert [verdict(outcome) for outcome in outcomes] == [
        OutputVerdict.RIGHT, FailureKind.REFUSED, OutputVerdict.RIGHT, FailureKind.WRONG_OUTPUT, OutputVerdict.RIGHT,
        FailureKind.CRASHED,
    ]  # fmt: skip


def verdict(outcome: Outcome | Skipped) -> OutputVerdict | FailureKind:
    match outcome:
        case Check(agreement=agreement):
            return agreement.verdict
        case Failure(kind=kind):
            return kind
    raise AssertionError(outcome)


def test_a_worker_is_ended_after_many_models(tmp_path: Path) -> None:
    pool = Pool()
    try:
        launched(tmp_path, pool, entry("right"))
        [lent] = pool._waiting.values()
        lent.models = MOST_MODELS - 1
        assert verdict(launched(tmp_path, pool, entry("right"))) is OutputVerdict.RIGHT
        assert models(pool) == []
    finally:
        pool.end()
