"""What LMDeploy's PyTorch engine needs of a config.json, and what it computes otherwise than the model."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.pytorch import PyTorch
from selector.model.quant.format import QuantFormat
from tests.selector.rules.engines.lmdeploy_gpus import FP8, changed, explain, gpu

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
        ("Qwen3ForCausalLM", {"hidden_act": "gelu"}, {}, ["needs hidden_act silu; found gelu"]),
        ("GemmaForCausalLM", {"hidden_act": "gelu"}, {"tie_word_embeddings": True}, []),
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
