"""What ONNX Runtime GenAI's builder does not read of a config, or computes as something else, is a reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.onnxruntime import OnnxRuntimeBackend
from selector.model.quant.format import QuantFormat
from tests.selector.conftest import host, installation, spec
from tests.selector.rules.judging import reasons as judged

BACKEND = OnnxRuntimeBackend()
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


NEEDED = "needs rope type {} where max_position_embeddings is {} and original_max_position_embeddings 4096; found {}"


def found(folder: Path, name: str, config: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    (folder / "config.json").write_text(json.dumps(config or {}))
    return BACKEND.fits(spec(architecture=name, folder=folder, **changes), BACKEND.variant("fp32"))


def without(name: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**YARN, **changes}.items() if key != name}


@pytest.mark.parametrize(
    ("name", "kind", "read"),
    [
        ("LlamaForCausalLM", "linear", "default or dynamic or llama3"),
        ("NemotronForCausalLM", "yarn", "default or dynamic or llama3"),
        ("Qwen2ForCausalLM", "llama3", "default or linear or yarn"),
        ("MistralForCausalLM", "dynamic", "default or linear or yarn"),
        ("GemmaForCausalLM", "longrope", "default or linear or yarn"),
        ("HunYuanDenseV1ForCausalLM", "linear", "default or dynamic"),
    ],
)
def test_the_rotations_that_a_builder_reads(name: str, kind: str, read: str, tmp_path: Path) -> None:
    assert found(tmp_path, name, rope_type=kind) == [f"needs rope type {read} in {name}; found {kind}"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("LlamaForCausalLM", "llama3"),
        ("Qwen3ForCausalLM", "linear"),
        ("HunYuanDenseV1ForCausalLM", "dynamic"),
        ("Qwen2ForCausalLM", "default"),
        ("Lfm2ForCausalLM", "none"),
    ],
)
def test_other_rotations_are_read(name: str, kind: str, tmp_path: Path) -> None:
    assert found(tmp_path, name, rope_type=kind) == []


@pytest.mark.parametrize(
    ("longest", "config", "kind", "reason"),
    [
        (4096, {}, "default", ""),
        (131072, {}, "longrope", ""),
        (131072, {"original_max_position_embeddings": 4096}, "longrope", ""),
        (512, {"original_max_position_embeddings": 512}, "default", ""),
        (512, {}, "default", NEEDED.format("longrope", 512, "default")),
        (4096, {}, "longrope", NEEDED.format("default", 4096, "longrope")),
    ],
)  # fmt: skip
def test_phi3_has_a_builder_for_each_rotation(
    longest: int, config: dict[str, Any], kind: str, reason: str, tmp_path: Path
) -> None:
    expected = [reason] if reason else []
    assert found(tmp_path, "Phi3ForCausalLM", config, max_position=longest, rope_type=kind) == expected


@pytest.mark.parametrize("where", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize(
    ("rotation", "reason"),
    [
        (YARN, ""),
        ({**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}, ""),  # both cancel
        (without("beta_slow"), "needs factor, beta_fast and beta_slow of YaRN"),
        (without("truncate"), "needs a YaRN with truncate false"),
        ({**YARN, "truncate": True}, "needs a YaRN with truncate false"),
        ({**YARN, "attention_factor": 2.0},
         "needs an attention factor of 1.139, which it takes for this YaRN; found 2"),
        ({**YARN, "mscale": 0.5}, "needs an attention factor of 0.5, which it takes for this YaRN; found 1.139"),
        ({**YARN, "original_max_position_embeddings": 64},
         "needs a YaRN whose range of dimensions lies within 0 to 63; found -"),
    ],
)  # fmt: skip
def test_yarn_where_it_computes_it(where: str, rotation: dict[str, Any], reason: str, tmp_path: Path) -> None:
    [text] = found(tmp_path, "Qwen2ForCausalLM", {where: rotation}, rope_type="yarn", rope_theta=1e6) or [""]
    assert text.startswith(reason) and bool(text) == bool(reason)


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("LlamaForCausalLM", {"partial_rotary_factor": 0.25},
         "needs partial_rotary_factor 1 in LlamaForCausalLM; found 0.25"),
        ("LlamaForCausalLM", {"rope_parameters": {"partial_rotary_factor": 0.5}},
         "needs partial_rotary_factor 1 in LlamaForCausalLM; found 0.5"),
        ("PhiForCausalLM", {"partial_rotary_factor": 0.3}, "needs a multiple of 16 rotated numbers a head; found 38"),
        ("SmolLM3ForCausalLM", {}, "needs rotation in every layer; found layers without it (no_rope_layers)"),
        ("SmolLM3ForCausalLM", {"no_rope_layers": [1, 1, 0]},
         "needs rotation in every layer; found layers without it (no_rope_layers)"),
        ("Lfm2MoeForCausalLM", {"norm_topk_prob": False},
         "needs norm_topk_prob true, since the routing weights are always normalised; found false"),
        ("PhiForCausalLM", {"qk_layernorm": True},
         "needs qk_layernorm false, since the builder leaves out what it adds; found true"),
        ("NemotronForCausalLM", {"mlp_bias": True},
         "needs mlp_bias false, since the builder leaves out what it adds; found true"),
        ("PhiForCausalLM", {"layer_norm_eps": 0.01}, "needs layer_norm_eps 1e-06, which the builder takes; found 0.01"),
        ("GraniteMoeHybridForCausalLM", {"position_embedding_type": "rope", "layer_types": ["attention"]},
         "needs num_local_experts 0, since it writes the shared MLP alone; found experts"),
        ("GraniteMoeHybridForCausalLM", {"num_local_experts": 0, "layer_types": ["attention"]},
         "needs position_embedding_type rope, which it writes for all; found another or none"),
        ("GraniteMoeHybridForCausalLM", {"num_local_experts": 0, "position_embedding_type": "rope"},
         "needs attention in every layer; found other kinds"),
    ],
)  # fmt: skip
def test_what_a_builder_does_not_read(name: str, config: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert found(tmp_path, name, config) == [reason]


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu", "rms_norm_eps": 0.01}),
        ("PhiForCausalLM", {"partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5}),
        ("SmolLM3ForCausalLM", {"no_rope_layer_interval": 100}),
        ("SmolLM3ForCausalLM", {"no_rope_layers": [1, 1, 1]}),
        ("Lfm2MoeForCausalLM", {"norm_topk_prob": True}),
        ("Gemma2ForCausalLM", {"hidden_act": "relu6", "hidden_activation": "gelu"}),
        ("GraniteMoeHybridForCausalLM",
         {"num_local_experts": 0, "position_embedding_type": "rope", "layer_types": ["attention", "attention"]}),
    ],
)  # fmt: skip
def test_what_a_builder_reads(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    assert found(tmp_path, name, config) == []


def test_heads_are_read_in_sixteens(tmp_path: Path) -> None:
    assert found(tmp_path, "LlamaForCausalLM", head_dim=24) == ["needs a head_dim that 16 divides; found 24"]
    assert found(tmp_path, "LlamaForCausalLM", head_dim=0, unknown=frozenset({"head_dim"})) == []
    # 8 of 16: HunYuan's heads are rotated before they come to the operator that asks for eights.
    half = {"partial_rotary_factor": 0.5}
    assert found(tmp_path, "PhiForCausalLM", half, head_dim=16) == [
        "needs a multiple of 16 rotated numbers a head; found 8"
    ]
    assert found(tmp_path, "PhiForCausalLM", half, head_dim=32) == []


def test_an_activation_that_is_not_built(tmp_path: Path) -> None:
    [text] = found(tmp_path, "LlamaForCausalLM", {"hidden_act": "quick_gelu"})
    assert text.startswith("needs an activation of gegelu, ") and text.endswith("; found quick_gelu")
    assert found(tmp_path, "Lfm2ForCausalLM", {"hidden_act": "quick_gelu"}) == []


def test_quantised_checkpoints_are_built_in_4_bits_alone(tmp_path: Path) -> None:
    model = spec(folder=tmp_path, quant=QuantFormat(method="gptq", bits=4, group_size=128, version="gptq"))
    assert BACKEND.fits(model, BACKEND.variant("int4")) == []
    for name in ("fp32", "int8"):
        assert BACKEND.fits(model, BACKEND.variant(name)) == [
            f"needs unquantised weights to build {name}; found {model.quant.label}"
        ]


@pytest.mark.parametrize(
    ("written", "reasons"),
    [
        ({"group_size": 128}, []),
        ({"group_size": -1}, []),
        ({"group_size": None}, ["needs a number as quantization_config.group_size; found none"]),
        ({}, ["needs a number as quantization_config.group_size; found none"]),
    ],
)
def test_the_group_size_is_read_as_it_stands(written: dict[str, Any], reasons: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq", **written}}))
    model = spec(folder=tmp_path, quant=QuantFormat(method="awq", bits=4))
    assert BACKEND.fits(model, BACKEND.variant("int4")) == reasons


@pytest.mark.parametrize(
    ("architecture", "reasons"),
    [
        ("GptOssForCausalLM", []),
        ("LlamaForCausalLM", ["needs mxfp4 with GptOssForCausalLM; found LlamaForCausalLM"]),
    ],
)
def test_the_experts_of_gpt_oss_are_decoded(architecture: str, reasons: list[str], tmp_path: Path) -> None:
    model = spec(architecture=architecture, folder=tmp_path, quant=QuantFormat(method="mxfp4", bits=4))
    machine = host(installations={"onnxruntime": installation({"accelerate": "1.10"})})
    refused = judged(BACKEND, model, machine)  # type: ignore[arg-type]
    assert [text for rule, text, _ in refused if rule.startswith("quant_")] == reasons
    for variant in BACKEND.variants:
        assert not [text for text in BACKEND.fits(model, variant) if "unquantised" in text]


@pytest.mark.parametrize(
    ("quant", "reasons"),
    [
        ({"method": "gptq", "bits": 8, "version": "gptq"}, []),
        ({"method": "gptq", "bits": 2, "version": "gptq"}, []),
        ({"method": "gptq", "bits": 3, "version": "gptq"}, ["needs gptq with 2, 4 or 8 bits; found 3 bits"]),
        ({"method": "gptq", "bits": 4, "version": "gptq_v2"}, ["needs gptq with version gptq; found version gptq_v2"]),
        ({"method": "awq", "bits": 4, "version": "gemm"}, []),
        ({"method": "awq", "bits": 8}, ["needs awq with 4 bits; found 8 bits"]),
    ],
)
def test_the_codes_that_its_builder_takes_over(quant: dict[str, Any], reasons: list[str], tmp_path: Path) -> None:
    machine = host(installations={"onnxruntime": installation()})
    found = judged(BACKEND, spec(folder=tmp_path, quant=QuantFormat(**quant)), machine)  # type: ignore[arg-type]
    assert [text for rule, text, _ in found if rule == "quant_format"] == reasons


@pytest.mark.parametrize(
    ("rotation", "reasons"),
    [
        ({}, []),  # 131072 / 4096, as Phi-3.5 is published
        ({"factor": 32.0}, []),
        ({"factor": 8.0}, ["needs an attention factor of 1.19, which it takes for this longrope; found 1.118"]),
        ({"attention_factor": 1.0}, ["needs an attention factor of 1.19, which it takes for this longrope; found 1"]),
    ],
)
def test_the_scale_of_longrope(rotation: dict[str, Any], reasons: list[str], tmp_path: Path) -> None:
    config = {"original_max_position_embeddings": 4096, "rope_scaling": {"rope_type": "longrope", **rotation}}
    sizes = {"rope_type": "longrope", "max_position": 131072, "head_dim": 96}
    assert found(tmp_path, "Phi3ForCausalLM", config, **sizes) == reasons
