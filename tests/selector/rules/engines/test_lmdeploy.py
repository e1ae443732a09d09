"""LMDeploy's two engines on GPUs that this host has not: what loads and what only seems to."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.model.quant.format import QuantFormat
from selector.rules.judge import judge
from tests.selector.conftest import host, installation, spec
from tests.selector.rules.engines.lmdeploy_gpus import AWQ, BACKENDS, FP8, GPTQ, INT4, changed, explain, gpu

KNOWN = {
    "turbomind": "needs weights without quantization or in awq, gptq, fp8, compressed-tensors or mxfp4; found ",
    "pytorch": "needs weights without quantization or in awq, fp8, compressed-tensors or smooth_quant; found ",
}


# LMDeploy's own choice answers `turbomind` to all of these: it looks at the architecture (lmdeploy 0.18.0 archs.py).
@pytest.mark.parametrize(
    ("quant", "text"),
    [
        (QuantFormat(), []),
        (AWQ, []),
        (changed(AWQ, group_size=32), ["needs awq with group size 128; found group size 32"]),
        (changed(AWQ, group_size=64), ["needs awq with group size 128; found group size 64"]),
        (changed(AWQ, version="gemv"), ["needs awq with version gemm; found version gemv"]),
        (GPTQ, []),
        (changed(GPTQ, bits=8), ["needs gptq with 4 bits; found 8 bits"]),
        (changed(GPTQ, desc_act=True), ["needs gptq with no desc_act; found desc_act"]),
        (changed(GPTQ, symmetric=False), ["needs gptq with symmetric weights; found zero points"]),
        (FP8, ["needs fp8 with blocks of 128x128; found no blocks"]),
        (changed(FP8, block_shape=(128, 128)), []),
        (INT4, []),
        (
            changed(INT4, group_size=-1),
            ["needs compressed-tensors with group size 32 or 128; found group size -1 (per channel)"],
        ),
        (
            changed(INT4, bits=8, format="int-quantized"),
            ["needs compressed-tensors with 4 bits, format pack-quantized; found 8 bits, format int-quantized"],
        ),
        (QuantFormat(method="bitsandbytes", bits=4, format="nf4"), [KNOWN["turbomind"] + "bitsandbytes-4bit-nf4"]),
        (QuantFormat(method="hqq", bits=4, group_size=64), [KNOWN["turbomind"] + "hqq-4bit-g64"]),
        (QuantFormat(method="modelopt", format="fp8"), [KNOWN["turbomind"] + "modelopt-fp8"]),
    ],
    ids=lambda value: value.label if isinstance(value, QuantFormat) else "",
)
def test_formats_of_turbomind_on_sm80(site: Path, quant: QuantFormat, text: list[str]) -> None:
    dtype = "float16" if quant.method in {"awq", "gptq"} else "bfloat16"
    assert explain(gpu(site, (8, 0)), site, quant=quant, dtype=dtype)["turbomind"] == text


@pytest.mark.parametrize(
    ("quant", "capability", "text"),
    [
        (AWQ, (8, 0), []),
        (changed(AWQ, group_size=32), (8, 0), []),
        (GPTQ, (8, 0), [KNOWN["pytorch"] + "gptq-4bit-g128"]),
        (QuantFormat(method="mxfp4", bits=4), (9, 0), [KNOWN["pytorch"] + "mxfp4"]),
        (changed(FP8, block_shape=(128, 128)), (9, 0), []),
        (
            changed(FP8, block_shape=(128, 128)),
            (8, 0),
            ["needs fp8 with compute capability 8.9 or newer; found compute capability 8.0"],
        ),
        (FP8, (9, 0), ["needs fp8 with blocks of 128x128; found no blocks"]),
        (QuantFormat(method="smooth_quant", bits=8), (8, 0), []),
    ],
    ids=lambda value: value.label if isinstance(value, QuantFormat) else "",
)
def test_formats_of_the_pytorch_engine(
    site: Path, quant: QuantFormat, capability: tuple[int, int], text: list[str]
) -> None:
    dtype = "float16" if quant.method == "awq" else "bfloat16"
    assert explain(gpu(site, capability), site, quant=quant, dtype=dtype)["pytorch"] == text


def test_awq_of_experts_is_for_turbomind_alone(site: Path) -> None:
    experts: dict[str, Any] = {"experts": 128, "experts_per_token": 8, "expert_intermediate_size": 768}
    found = explain(gpu(site, (8, 0)), site, architecture="Qwen3MoeForCausalLM", quant=AWQ, dtype="float16", **experts)
    assert found["turbomind"] == []
    refused = "needs awq with an architecture other than Qwen3MoeForCausalLM; found Qwen3MoeForCausalLM"
    assert refused in found["pytorch"]


@pytest.mark.parametrize(
    ("capability", "turbomind", "pytorch"),
    [
        ((6, 1), ["compute_capability", "machine_code", "dtype"], ["compute_capability", "dtype"]),
        ((7, 5), ["dtype"], ["dtype"]),
        ((8, 7), [], []),
        ((9, 0), [], []),
        ((10, 3), ["machine_code"], []),
        ((12, 0), [], []),
        ((12, 1), ["machine_code"], []),
    ],
)
def test_bfloat16_by_compute_capability(
    site: Path, capability: tuple[int, int], turbomind: list[str], pytorch: list[str]
) -> None:
    verdicts = judge(spec(folder=site), gpu(site, capability), Demand(), BACKENDS)
    found = {v.candidate.label: [r.rule for r in v.reasons] for v in verdicts}
    assert found == {
        "turbomind:default": turbomind,
        "turbomind:fp16": [rule for rule in turbomind if rule != "dtype"],
        "pytorch:graph": pytorch,
        "pytorch:eager": pytorch,
        "pytorch:graph-fp16": [rule for rule in pytorch if rule != "dtype"],
        "pytorch:eager-fp16": [rule for rule in pytorch if rule != "dtype"],
    }


def test_window_that_turbomind_ignores(site: Path) -> None:
    window = {"sliding_window": 4096, "window_layers": 32, "max_position": 32768}
    inside = Demand.of(workload=Workload(prompt_tokens=3968, output_tokens=128))
    beyond = Demand.of(workload=Workload(prompt_tokens=8000, output_tokens=192))
    assert explain(gpu(site, (8, 0)), site, inside, **window) == {"turbomind": [], "pytorch": []}
    needed = "needs at most 4096 tokens a sequence, since it does not honour the sliding window"
    assert explain(gpu(site, (8, 0)), site, beyond, **window)["turbomind"] == [
        f"{needed}; found 8192 (pp8000:tg192:b1)"
    ]


def test_shapes_that_abort_in_turbomind(site: Path) -> None:
    assert explain(gpu(site, (8, 0)), site, head_dim=80, rope_type="longrope")["turbomind"] == [
        "needs head_dim 64, 128, 192, 256 or 576; found 80",
        "needs rope type default, dynamic, linear, llama3, mrope or yarn; found longrope",
    ]


def test_tensor_parallel_repeats_kv_heads(site: Path) -> None:
    machine = gpu(site, (8, 0))
    four = host(devices=machine.devices * 4, installations=machine.installations)
    demand = Demand(tensor_parallel=4)
    assert explain(four, site, demand, heads=28, kv_heads=4) == {"turbomind": [], "pytorch": []}
    assert explain(four, site, demand, heads=32, kv_heads=2) == {"turbomind": [], "pytorch": []}
    three = ["needs heads divisible by 4; found 14", "needs KV heads divisible by 4; found 3"]
    assert explain(four, site, demand, heads=14, kv_heads=3)["turbomind"] == three


def test_removed_and_unknown_architectures(site: Path) -> None:
    found = explain(gpu(site, (8, 0)), site, architecture="Starcoder2ForCausalLM")
    assert found == {
        "turbomind": ["needs an architecture that LMDeploy TurboMind knows; found Starcoder2ForCausalLM"],
        "pytorch": ["needs lmdeploy <= 0.14.0 for Starcoder2; 0.18.0 is installed"],
    }


def test_the_release_that_an_architecture_or_a_format_needs(site: Path) -> None:
    machine = gpu(site, (8, 0))
    there = machine.installations["turbomind"]
    old = installation({**there.versions, "lmdeploy": "0.7.2"}, site_packages=(site,))
    older = host(devices=machine.devices, installations=dict.fromkeys(BACKENDS, old))
    installed = "needs lmdeploy>=0.18,<0.19; lmdeploy 0.7.2 is installed"
    qwen3 = "needs lmdeploy >= 0.7.3 for Qwen3; 0.7.2 is installed"
    assert explain(older, site, architecture="Qwen3ForCausalLM") == {
        "turbomind": [installed, qwen3],
        "pytorch": [installed, qwen3],
    }
    assert explain(older, site, quant=changed(FP8, block_shape=(128, 128)))["turbomind"] == [
        installed,
        "needs lmdeploy >= 0.9.0 for fp8; 0.7.2 is installed",
    ]


def test_a_host_without_a_gpu(site: Path) -> None:
    assert explain(host(installations=gpu(site, (8, 0)).installations), site) == {
        "turbomind": ["needs an NVIDIA GPU; this host has none"],
        "pytorch": [
            "needs an NVIDIA GPU, an AMD GPU, an Ascend NPU, a MetaX GPU or a Cambricon MLU; this host has none"
        ],
    }


@pytest.mark.parametrize(
    ("tokenizer", "ends", "text"),
    [
        ({}, [5, 6], ["needs an eos_token in tokenizer_config.json; found several ids [5, 6]"]),
        ({"eos_token": "</s>"}, [5, 6], []),
        ({}, 5, []),
    ],
)
def test_ids_that_end_an_answer_need_a_token_among_them(
    site: Path, tokenizer: dict[str, Any], ends: Any, text: list[str]
) -> None:
    (site / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (site / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    assert explain(gpu(site, (9, 0)), site) == {"turbomind": text, "pytorch": text}
