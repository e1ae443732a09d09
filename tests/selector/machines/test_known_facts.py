"""What is publicly known of machines and engines, as the rules have it for the machines of the library."""

import json
from pathlib import Path

import pytest

from calibration.backend import Variant
from selector.demand.demand import Demand
from selector.explanation import explain
from selector.machines.what_if import what_if
from selector.predict.limits.roofline import needs_of
from selector.rules.judge import Verdict, judge
from tests.selector.conftest import GIB, FakeBackend
from tests.selector.rules.judging import small

MODELS = Path(__file__).parents[2] / "data/models"
FP8, AWQ = str(MODELS / "fp8-e4m3-128x128-qwen3"), str(MODELS / "awq-4bit-g128-qwen2")
BF16 = "shape:qwen3-8b"
AVX512 = FakeBackend(Variant(name="fast", cpu_features=frozenset({"avx512_bf16|amx_bf16"})))


def verdicts(model: str, machine: str, **demand: object) -> dict[str, Verdict]:
    explanation = explain(model, Demand.of(**demand), host=what_if(machine))  # type: ignore[arg-type]  # of DemandOptions
    return {verdict.candidate.label: verdict for verdict in explanation.verdicts}


def reasons(model: str, machine: str, label: str, **demand: object) -> list[tuple[str, str]]:
    return [(reason.rule, reason.text) for reason in verdicts(model, machine, **demand)[label].reasons]


@pytest.mark.parametrize("machine", ["host:a100-80gb", "host:rtx-3090", "host:a10g"])
def test_fp8_weights_need_compute_capability_8_9(machine: str) -> None:
    [(rule, text)] = reasons(FP8, machine, "pytorch:graph")
    assert rule == "quant_format"
    assert text.startswith("needs fp8 with compute capability 8.9 or newer; found compute capability 8.")


@pytest.mark.parametrize("machine", ["host:l40s", "host:rtx-4090", "host:h100-sxm-80gb", "host:b200-180gb"])
def test_fp8_weights_run_from_compute_capability_8_9_on(machine: str) -> None:
    assert reasons(FP8, machine, "pytorch:graph") == []


def test_turbomind_needs_compute_capability_7(tmp_path: Path) -> None:
    file = tmp_path / "p40.json"
    device = {
        "kind": "cuda",
        "name": "Tesla P40",
        "memory_bytes": 24 * GIB,
        "free_bytes": 23 * GIB,
        "capability": "6.1",
    }
    machine = {
        "format": "autobackend-host", "version": 1, "identifier": "0123456789ab", "cpu_name": "haswell",
        "cpu_model": "Intel Xeon E5", "cpu_features": ["avx2"], "cores": 16, "memory_bytes": 64 * GIB,
        "devices": [device],
    }  # fmt: skip
    file.write_text(json.dumps(machine))
    found = reasons(AWQ, str(file), "turbomind:default")
    assert ("compute_capability", "needs compute capability 7.0 or newer; found 6.1 (Tesla P40)") in found
    assert reasons(AWQ, "host:v100", "turbomind:default") == []
    assert reasons(AWQ, "host:t4", "turbomind:default") == []


@pytest.mark.parametrize(
    ("machine", "found"), [("host:v100-32gb", "7.0 (Tesla V100-SXM2-32GB)"), ("host:t4", "7.5 (Tesla T4)")]
)
@pytest.mark.parametrize("label", ["turbomind:default", "pytorch:graph"])
def test_bfloat16_is_not_on_volta_nor_turing(machine: str, found: str, label: str) -> None:
    text = f"needs compute capability 8.0 or newer for bfloat16; found {found}"
    assert ("dtype", text) in reasons(BF16, machine, label)
    assert reasons(BF16, "host:a100-40gb", label) == []


def test_vllm_needs_compute_capability_7_5() -> None:
    text = "needs compute capability 7.5 or newer; found 7.0 (Tesla V100-SXM2-16GB)"
    assert ("compute_capability", text) in reasons(AWQ, "host:v100", "vllm:eager")
    assert reasons(AWQ, "host:t4", "vllm:eager") == []


def test_lmdeploy_computes_float16_alone_on_amd() -> None:
    [(rule, text)] = reasons(BF16, "host:mi300x-192gb", "pytorch:graph")
    assert (rule, text) == ("dtype", "needs float16 on an AMD GPU; found bfloat16")
    assert reasons(BF16, "host:mi300x-192gb", "transformers:sdpa") == []


@pytest.mark.parametrize(
    ("machine", "runs"),
    [
        ("xeon-spr", True),
        ("epyc-genoa", True),
        ("xeon-icelake", False),
        ("epyc-milan", False),
        ("laptop-avx2-16gb", False),
    ],
)
def test_kernels_for_bfloat16_in_avx512_are_not_for_older_processors(machine: str, runs: bool) -> None:
    host = what_if(f"host:{machine}")
    [verdict] = judge(small(), host, Demand(), {"fake": AVX512})
    told = [reason.text for reason in verdict.reasons if reason.rule == "instruction_set"]
    features = " ".join(sorted(host.cpu_features))
    assert told == ([] if runs else [f"needs a CPU with avx512_bf16 or amx_bf16; found {features}"])


def test_float32_is_pointless_where_the_processor_multiplies_bfloat16() -> None:
    fast = verdicts("shape:smollm2-135m", "host:xeon-spr")["transformers:sdpa-fp32"]
    assert fast.left_out == "pointless on a CPU with amx_bf16 and avx512_bf16 (--backends transformers:sdpa-fp32)"
    assert verdicts("shape:smollm2-135m", "host:epyc-milan")["transformers:sdpa-fp32"].left_out == ""


def test_openvino_holds_more_of_float16_without_instructions_for_it() -> None:
    fast = verdicts(BF16, "host:xeon-spr")["openvino:fp16-pa"].memory
    slow = verdicts(BF16, "host:epyc-milan")["openvino:fp16-pa"].memory
    assert fast and slow
    # Of 8.19 B parameters the file, mapped, and what is packed of it.
    assert fast.weights_bytes == pytest.approx(2 * 2 * 8.19e9, rel=0.05)
    # On an Ice Lake without such instructions qwen3-0.6b held 4.2 GiB, with them 3.1.
    assert slow.weights_bytes == pytest.approx(1.3 * fast.weights_bytes)


def test_llama_cpp_has_no_machine_code_for_arm() -> None:
    text = "needs a CPU with avx2; found bf16 dotprod fp16 i8mm neon sve"
    assert ("instruction_set", text) in reasons(BF16, "host:graviton3", "llamacpp:f16")
    assert reasons("shape:smollm2-135m", "host:laptop-avx2-16gb", "llamacpp:f16") == []


def test_what_is_too_large_for_one_gpu_fits_into_two() -> None:
    model = "shape:qwen3-30b-a3b"
    [(rule, text)] = reasons(model, "host:a100-40gb", "pytorch:graph")
    assert rule == "memory_fit"
    assert text.endswith("; 39.4 GiB are free")
    assert reasons(model, "host:a100-40gb x2", "pytorch:graph", tensor_parallel=2) == []
    assert reasons(model, "host:a100-80gb", "pytorch:graph") == []


def test_no_decode_step_is_faster_than_the_memory() -> None:
    h100 = what_if("host:h100-sxm-80gb")
    explanation = explain(BF16, host=h100)
    verdict = next(v for v in explanation.verdicts if v.candidate.label == "transformers:sdpa")
    needs = needs_of(explanation.spec, h100, verdict.candidate, explanation.demand.workload)
    assert needs is not None
    # 7.57 B weights of 2 bytes without the input embedding, and the KV cache of 576 tokens
    assert needs.step_bytes == pytest.approx(15.2e9, rel=0.01)
    assert explanation.least_tpot_s(verdict) == pytest.approx(needs.step_bytes / 3.35e12)


def test_nothing_is_said_of_what_a_cache_may_hold_nor_of_this_machine() -> None:
    for host in (what_if("host:epyc-genoa"), None):
        explanation = explain("shape:smollm2-135m", host=host)
        assert {explanation.least_tpot_s(verdict) for verdict in explanation.verdicts} == {None}
