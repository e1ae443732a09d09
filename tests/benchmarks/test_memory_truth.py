"""Predicted memory beside measured: that recorded launches hold it, and that a run measures once and goes on."""

import json
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest

from benchmarks.memory_truth.cases import HELD_OUT, MODELS, WORKLOADS, name_of
from benchmarks.memory_truth.compared import Compared, compared, published, recorded, serving_bytes, table
from calibration.workload import Workload
from selector.model.spec import ModelSpec
from tests.selector.conftest import host

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def launches() -> list[Compared]:
    return list(recorded(ROOT / "results" / "hosts"))


def test_recorded_launches_hold_what_is_predicted_and_none_is_promised_too_little(launches: list[Compared]) -> None:
    assert len(launches) > 450
    assert median(abs(one.error) for one in launches) < 0.05
    assert min(one.error for one in launches) >= -0.05
    # The same engine held from 1043 to 1428 MiB of this model on CPUs of the same kinds.
    assert [one.candidate for one in launches if one.error > 0.25] == ["ctranslate2:int8"]


def test_what_was_held_out_of_the_fit_is_not_promised_too_little() -> None:
    file = ROOT / "results" / "memory" / "held_out.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    everything = list(compared(lines, published(ROOT / "results" / "hosts")))
    for converting, least in ((True, 24), (False, 57)):
        alike = [one for one in everything if (one.what == "converting") is converting]
        assert len(alike) >= least
        assert median(abs(one.error) for one in alike) < 0.05
    # What is short: docs/benchmarks.md, Held out.
    short = {(one.candidate, one.model, one.what) for one in everything if not -0.05 <= one.error <= 0.25}
    assert short == {
        ("llamacpp:f16", "llama-80m", "converting"),
        ("onnxruntime:fp32", "llama-80m", "converting"),
        ("transformers:sdpa", "llama-80m", "pp4000:tg4:b1"),
    }


def test_openvino_holds_no_scores_of_a_long_prompt_but_a_mask_without_paged_attention() -> None:
    spec, machine = ModelSpec.read(HELD_OUT[0]), host()

    def more(candidate: str, tokens: int) -> int:
        """Bytes that twice as many tokens take."""
        once, twice = (Workload(prompt_tokens=count, output_tokens=4, batch=1) for count in (tokens, 2 * tokens))
        return serving_bytes(spec, machine, candidate, twice) - serving_bytes(spec, machine, candidate, once)

    assert more("openvino:int8-pa", 8000) == pytest.approx(2 * more("openvino:int8-pa", 4000), rel=0.01)
    # Without paged attention two copies of a mask of 16,000 x 16,004 numbers in float32, and the margin of 2 %.
    scores = 1.02 * 2 * 4 * (16_000 * 16_004 - 8_000 * 8_004)
    straight = 2 * more("openvino:int8-sdpa", 4000) - 2 * 1.02 * 2 * 4 * (8_000 * 8_004 - 4_000 * 4_004)
    assert more("openvino:int8-sdpa", 8000) == pytest.approx(straight + scores, rel=0.01)


@pytest.mark.parametrize(
    ("candidate", "number", "started", "left_out"),
    [
        ("openvino:int4-sdpa", 1, "2026-11-26 04:51", True),
        ("openvino:int4-sdpa", 1, "2026-11-26 04:53", False),
        ("openvino:int4-sdpa", 2, "2026-11-26 04:51", False),
        ("openvino:int4-pa", 1, "2026-11-24 12:00", False),
        ("llamacpp:f16", 1, "2026-11-24 13:15", True),
        ("llamacpp:f16", 1, "2026-11-24 13:17", False),
        ("llamacpp:f16", 3, "2026-11-24 13:15", False),
    ],
)
def test_launches_whose_check_held_more_than_todays_are_left_out(
    candidate: str, number: int, started: str, left_out: bool, tmp_path: Path
) -> None:
    file = min((ROOT / "results" / "hosts").glob("*.json"))
    content = json.loads(file.read_text(encoding="utf-8"))
    record = next(r for r in content["records"] if r["record"] == "measurement" and not r["gpu_memory_bytes"])
    backend, _, variant = candidate.partition(":")
    record["candidate"] = {"backend": backend, "variant": variant}
    record["round"], record["started_at"] = number, datetime.fromisoformat(started + "+00:00").timestamp()
    (tmp_path / "host.json").write_text(json.dumps({**content, "records": [record]}), encoding="utf-8")
    assert [one.candidate for one in recorded(tmp_path)] == ([] if left_out else [candidate])


def test_every_shape_is_read_and_has_a_prediction() -> None:
    for model in MODELS:
        spec = ModelSpec.read(model)
        for workload in WORKLOADS:
            if workload.context_tokens > spec.max_position:
                continue
            assert serving_bytes(spec, host(), "transformers:sdpa", workload) > spec.weight_bytes


def test_what_was_measured_here_stands_beside_what_the_facts_say() -> None:
    machine = host()
    line = {
        "kind": "serving",
        "host": machine.identifier,
        "model": "shape:smollm2-135m",
        "candidate": "transformers:sdpa",
        "workload": "pp64:tg8:b1",
        "peak_bytes": 1 << 30,
    }
    failed = {"kind": "serving", "host": machine.identifier, "model": "x", "candidate": "y", "error": "it did not load"}
    converting = {**line, "kind": "converting", "candidate": "openvino:int8-pa"}
    del converting["workload"]
    [served, made] = compared([line, failed, {**line, "host": "another"}, converting], {machine.identifier: machine})
    spec = ModelSpec.read("shape:smollm2-135m")
    expected = serving_bytes(spec, machine, "transformers:sdpa", Workload.parse("pp64:tg8:b1"))
    assert (served.what, served.predicted_bytes) == ("pp64:tg8:b1", expected)
    assert served.error == pytest.approx(expected / (1 << 30) - 1)
    # 368 MiB and 7.8 for each of 30 layers, a byte for each of 134.5 M parameters, 7.5 more for each of 28.3 M of the
    # embeddings.
    assert made.what == "converting"
    assert made.predicted_bytes == pytest.approx(979e6, rel=0.01)


def test_the_table_has_the_median_and_the_worst() -> None:
    def one(candidate: str, error: float, what: str = "pp64:tg8:b1") -> Compared:
        predicted = round((1 + error) * 1000)
        return Compared(candidate=candidate, model="m", what=what, predicted_bytes=predicted, measured_bytes=1000)

    assert table([one("a", 0.2), one("a", -0.1), one("b", 0.0), one("a", 0.5, "converting")])[2:] == [
        "| converting | a | 1 | 50% | - | +50% (m, converting) |",
        "| converting | all | 1 | 50% | - | +50% (m, converting) |",
        "| serving | a | 2 | 15% | -10% (m, pp64:tg8:b1) | +20% (m, pp64:tg8:b1) |",
        "| serving | all | 3 | 10% | -10% (m, pp64:tg8:b1) | +20% (m, pp64:tg8:b1) |",
        "| serving | b | 1 | 0% | - | - |",
    ]


def test_names_are_those_of_the_folders() -> None:
    assert name_of("shape:gpt2") == "shape:gpt2"
    assert [name_of(model) for model in MODELS if not model.startswith("shape:")] == [
        "mla-160m",
        "mixture-300m",
        "lfm2-350m",
    ]
