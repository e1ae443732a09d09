"""LMDeploy's two engines on GPUs that this host has not: what loads and what only seems to."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.pytorch import PyTorch
from calibration.backends.turbomind.adapter import TurboMind
from calibration.environments.distributions import requirement_name
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import Device, HostSpec
from selector.model.quant.format import QuantFormat
from selector.rules.judge import judge
from tests.selector.conftest import GIB, host, installation, spec

BACKENDS = {backend.name: backend for backend in (TurboMind(), PyTorch())}
VERSIONS = {
    "lmdeploy": "0.18.0",
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "huggingface-hub": "1.33.0",
    "xgrammar": "0.2.8",
    "pydantic": "2.14.3",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """site-packages with a TurboMind library that needs nothing."""
    library = tmp_path / "lmdeploy/turbomind/_turbomind.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    return tmp_path


def gpu(site: Path, capability: tuple[int, int], name: str = "GPU") -> HostSpec:
    device = Device(
        kind="cuda", name=name, memory_bytes=80 * GIB, free_bytes=80 * GIB, capability=capability, driver="570.1"
    )
    names = {requirement_name(r) for b in BACKENDS.values() for r in b.facts.requires}
    there = installation({n: VERSIONS.get(n, "9") for n in names}, site_packages=(site,))
    return host(devices=(device,), installations=dict.fromkeys(BACKENDS, there))


def explain(machine: HostSpec, folder: Path, demand: Demand | None = None, **changes: Any) -> dict[str, list[str]]:
    """Texts of TurboMind's and of the PyTorch engine's reasons for a Qwen2-like model."""
    fields = {"architecture": "Qwen2ForCausalLM", "folder": folder, "hidden_size": 4096, **changes}
    fields.setdefault("architectures", (fields["architecture"],))
    verdicts = judge(spec(**fields), machine, demand or Demand(), BACKENDS)
    found = {v.candidate.label: [r.text for r in v.reasons] for v in verdicts}
    return {"turbomind": found["turbomind:default"], "pytorch": found["pytorch:graph"]}


AWQ = QuantFormat(method="awq", bits=4, group_size=128, version="gemm", symmetric=False, zero_point=True, kind="int")
GPTQ = QuantFormat(method="gptq", bits=4, group_size=128, version="gptq", symmetric=True, desc_act=False, kind="int")
FP8 = QuantFormat(method="fp8", bits=8, activation_scheme="dynamic", format="e4m3", kind="float")
INT4 = QuantFormat(
    method="compressed-tensors", bits=4, group_size=128, format="pack-quantized", strategy="group", symmetric=True
)

KNOWN = {
    "turbomind": "needs weights without quantization or in awq, gptq, fp8, compressed-tensors or mxfp4; found ",
    "pytorch": "needs weights without quantization or in awq, fp8, compressed-tensors or smooth_quant; found ",
}


def changed(quant: QuantFormat, **fields: Any) -> QuantFormat:
    return QuantFormat(**{name: getattr(quant, name) for name in QuantFormat.__slots__} | fields)


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


IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "attention_bias": False}
V4: dict[str, Any] = {
    "model_type": "deepseek_v4",
    "expert_dtype": "fp4",
    "rope_scaling": {"type": "yarn", "factor": 16, "original_max_position_embeddings": 65536},
}
"""As DeepSeek-V4-Flash is published: experts in fp4, all else in blocks of fp8."""
V4_ROPE = " or ".join(
    f"{table}.original_max_position_embeddings"
    for table in ("rope_scaling", "rope_parameters", "rope_parameters.compress")
)
V4_QUANT = changed(
    FP8,
    block_shape=(128, 128),
    groups=(
        changed(FP8, block_shape=(128, 128)),
        QuantFormat(method="fp8", bits=4, group_size=32, format="mxfp4", strategy="group", kind="float"),
    ),
)


@pytest.mark.parametrize(
    ("config", "capability", "quant", "text"),
    [
        (V4, (9, 0), V4_QUANT, []),
        (V4, (8, 9), V4_QUANT, ["needs compute capability 9.0 or newer for sparse MLA; found 8.9"]),
        (
            {**V4, "model_type": "deepseek_ref", "expert_dtype": None},
            (9, 0),
            changed(FP8, block_shape=(128, 128)),
            [
                "needs model_type deepseek_v4 for DeepseekV4ForCausalLM; found deepseek_ref",
                "needs experts in fp4 (expert_dtype); found none",
            ],
        ),
        (
            {**V4, "rope_scaling": {"type": "yarn", "factor": 16}},
            (9, 0),
            V4_QUANT,
            [f"needs {V4_ROPE} in config.json, which its own code reads; it is not there"],
        ),
    ],
    ids=["published", "before Hopper", "another reference", "rope"],
)
def test_deepseek_v4_in_the_pytorch_engine(
    site: Path, config: dict[str, Any], capability: tuple[int, int], quant: QuantFormat, text: list[str]
) -> None:
    (site / "config.json").write_text(
        json.dumps(
            {"architectures": ["DeepseekV4ForCausalLM"], **config, "quantization_config": {"quant_method": "fp8"}}
        )
    )
    shape: dict[str, Any] = {"head_dim": 512, "sliding_window": 128, "experts": 256, "experts_per_token": 6}
    found = explain(
        gpu(site, capability),
        site,
        architecture="DeepseekV4ForCausalLM",
        model_type=config["model_type"],
        quant=quant,
        **shape,
    )["pytorch"]
    # flash_mla and the like are not among the packages that pip would find.
    assert [reason for reason in found if "not installed" not in reason] == text


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (IDS, []),
        (
            {**IDS, "attention_bias": None},
            ["needs attention_bias in config.json, which its own code reads; it is not there"],
        ),
        ({**IDS, "rope_scaling": {"type": "linear", "factor": 2.0}}, []),
        (
            {**IDS, "rope_scaling": None},
            ["needs another value than null as rope_scaling in config.json, which its own code reads"],
        ),
        (
            {**IDS, "bos_token_id": None},
            ["needs bos_token_id in config.json, which its own code reads; it is not there"],
        ),
    ],
    ids=["whole", "no bias", "scaled", "null", "no bos"],
)
def test_a_model_type_without_a_class_of_transformers_in_the_pytorch_engine(
    site: Path, config: dict[str, Any], text: list[str]
) -> None:
    for model_type, expected in (("iquestcoder", text), ("llama", [])):
        table = site / "transformers/models/auto/configuration_auto.py"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text('\nCONFIG_MAPPING_NAMES = OrderedDict([\n        ("llama", "LlamaConfig"),\n]\n)\n')
        (site / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
        found = explain(gpu(site, (9, 0)), site, architecture="LlamaForCausalLM", model_type=model_type)
        assert found["pytorch"] == expected


WRONG_GLM = (
    f"needs an architecture that {PyTorch.facts.title} runs right; Glm4MoeForCausalLM:"
    f" {PyTorch.facts.wrong_architectures['Glm4MoeForCausalLM']}"
)
POSITIONS = "original_max_position_embeddings"
LONG: dict[str, Any] = {"type": "longrope", POSITIONS: 64}


@pytest.mark.parametrize(
    ("architecture", "config", "fields", "text"),
    [
        ("LlamaForCausalLM", {}, {"tie_word_embeddings": True}, []),
        (
            "MixtralForCausalLM",
            {},
            {"tie_word_embeddings": True},
            ["needs an lm_head of its own in the checkpoint; found tied embeddings, which it leaves out"],
        ),
        ("MixtralForCausalLM", {}, {}, []),
        (
            "MixtralForCausalLM",
            {},
            {"head_dim": 64},
            ["needs head_dim = hidden size / heads, which it computes; found 64"],
        ),
        (
            "Glm4MoeForCausalLM",
            {},
            {},
            [WRONG_GLM],
        ),
        ("Phi3ForCausalLM", {"hidden_act": "gelu"}, {}, ["needs hidden_act silu; found gelu"]),
        ("Qwen3MoeForCausalLM", {"mlp_only_layers": []}, {}, []),
        ("Qwen3MoeForCausalLM", {"mlp_only_layers": [0]}, {}, ["needs experts in every layer; found dense layers [0]"]),
        (
            "Qwen3MoeForCausalLM",
            {"decoder_sparse_step": 2},
            {},
            ["needs experts in every layer (decoder_sparse_step 1); found 2"],
        ),
        ("Phi3ForCausalLM", {"rope_scaling": LONG}, {"rope_type": "longrope", "max_position": 1024}, []),
        (
            "Phi3ForCausalLM",
            {"model_type": "phi3", "rope_scaling": {**LONG, "factor": 8.0}},
            {"rope_type": "longrope", "max_position": 1024},
            ["needs attention scaled by 1, as for positions extended 0.25 times; found 1.118"],
        ),
    ],
)
def test_what_the_pytorch_engine_computes_wrong(
    site: Path, architecture: str, config: dict[str, Any], fields: dict[str, Any], text: list[str]
) -> None:
    (site / "config.json").write_text(json.dumps(config))
    shape: dict[str, Any] = {"heads": 32, "head_dim": 128, "tie_word_embeddings": False, **fields}
    assert explain(gpu(site, (9, 0)), site, architecture=architecture, **shape)["pytorch"] == text


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
