"""What OpenVINO's export and paged attention cannot do, told from the config: each limit, and what is within it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from calibration.measurement import Candidate
from calibration.registry import find
from selector.demand.demand import Demand
from selector.model.spec import ModelSpec
from selector.rules.judge import Verdict, judge
from tests.selector.conftest import host, installation

OPENVINO = find("openvino")
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
LONG = {"max_position_embeddings": 8192}
"""Enough for any workload."""
STATES = "needs keys, values and inputs of convolutions as its only state; found {} of 4 layers with another state"
KEYS = "needs attention to all keys, or to those of a window; found {}"


def model(folder: Path, **fields: Any) -> ModelSpec:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **fields}))
    return ModelSpec.read(str(folder))


def named(architecture: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [architecture], **more}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"sliding_window": 16}, None),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, None),
        ({"attn_logit_softcapping": 30.0}, None),
        (named("NobodyTriedItForCausalLM", model_type="nobody"), None),
        (named("RobertaForCausalLM"), "needs is_decoder; found RobertaForCausalLM without it"),
        (named("RobertaForCausalLM", is_decoder=True), None),
        ({"layer_types": ["linear_attention"] * 3 + ["full_attention"]}, STATES.format(3)),
        ({"layer_types": ["conv", "full_attention"] * 2}, STATES.format(2)),
        (named("Lfm2ForCausalLM", layer_types=["conv", "full_attention"] * 2), None),
        (named("BertGenerationDecoder", is_decoder=True), None),
        (
            {"compress_rates": {"heavily_compressed_attention": 128}},
            "needs keys of tokens in its cache; found compress_rates",
        ),
        ({"compress_ratios": [4, 128]}, "needs keys of tokens in its cache; found compress_ratios"),
        (named("MambaForCausalLM", model_type="mamba"), STATES.format(4)),
        (
            named("JetMoeForCausalLM"),
            "needs experts that the registry of transformers chooses; found JetMoeForCausalLM",
        ),
        (
            named("OpenAIGPTLMHeadModel"),
            "needs a forward that makes and takes past_key_values; found OpenAIGPTLMHeadModel",
        ),
        (
            named("RoFormerForCausalLM", is_decoder=True),
            "needs rotations by positions that a graph can be given; found RoFormerForCausalLM",
        ),
        (
            named("ProphetNetForCausalLM"),
            "needs a cache from which several tokens go on; found ProphetNetForCausalLM",
        ),
        (
            named("MoshiForCausalLM", sliding_window=16),
            "needs masks of the window that its cache keeps; found sliding_window 16",
        ),
        (named("MoshiForCausalLM", sliding_window=512), None),
        (named("GitForCausalLM"), "needs a mask as wide as the text; found GitForCausalLM"),
        (named("FalconForCausalLM", alibi=True), None),
        ({"keep_window_size": 511}, KEYS.format("keep_window_size 511")),
        ({"keep_window_size": 512}, None),
        ({"index_topk": 64}, KEYS.format("index_topk 64")),
        ({"index_topk": 512}, None),
        ({"text_config": {"index_topk": 64}, "vision_config": {"depth": 2}}, KEYS.format("index_topk 64")),
        ({"index_topk": 512, "max_position_embeddings": None}, KEYS.format("index_topk 512")),
    ],
)
def test_a_graph(fields: dict[str, Any], reason: str | None, tmp_path: Path) -> None:
    told = OPENVINO.fits(model(tmp_path, **fields), OPENVINO.variant("fp16-sdpa"))
    assert told == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"sliding_window": 16}, None),
        (named("FlintForCausalLM"), None),
        (named("GraniteSWAForCausalLM"), None),
        (named("Lfm2ForCausalLM", layer_types=["conv", "full_attention"] * 2), None),
        (
            named("InklingForCausalLM", layer_types=["hybrid_sliding"] * 4),
            "needs keys and values as they were projected for paged attention; found InklingForCausalLM",
        ),
        (named("GPTJForCausalLM"), "needs scaled_dot_product_attention for paged attention; found GPTJForCausalLM"),
        (named("Gemma3ForCausalLM", attn_logit_softcapping=30.0), None),
        (
            named("VaultGemmaForCausalLM", attn_logit_softcapping=30.0),
            "needs attention without soft caps for paged attention; found attn_logit_softcapping 30",
        ),
        (
            named("Gemma2ForCausalLM"),
            "needs attention without soft caps for paged attention; found attn_logit_softcapping 50",
        ),
        (named("Gemma2ForCausalLM", attn_logit_softcapping=None), None),
        ({"kv_lora_rank": 32}, "needs keys and values in the cache for paged attention; found kv_lora_rank 32"),
        ({"kv_lora_rank": None}, None),
        ({"keep_window_size": 512}, "needs masks of positions alone for paged attention; found keep_window_size"),
        (
            {"attention_chunk_size": 511},
            "needs causal masks, or windows, for paged attention; found attention_chunk_size 511",
        ),
        ({"attention_chunk_size": 512}, None),
        (
            {"text_config": {"attention_chunk_size": 511}},
            "needs causal masks, or windows, for paged attention; found attention_chunk_size 511",
        ),
        (
            named("Gemma4UnifiedForConditionalGeneration", use_bidirectional_attention="vision", sliding_window=16),
            "needs causal masks, or windows, for paged attention; found use_bidirectional_attention vision",
        ),
        (named("Gemma4UnifiedForConditionalGeneration", sliding_window=16), None),
        (
            named("Gemma4UnifiedForConditionalGeneration", use_bidirectional_attention="vision", sliding_window=512),
            None,
        ),
        (named("Gemma4UnifiedForCausalLM", use_bidirectional_attention="vision", sliding_window=16), None),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}},
            "needs frequencies that do not depend on the text's length for paged attention; found longrope",
        ),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "original_max_position_embeddings": 1 << 20}},
            None,
        ),
    ],
)
def test_paged_attention(fields: dict[str, Any], reason: str | None, tmp_path: Path) -> None:
    spec = model(tmp_path, **fields)
    assert OPENVINO.fits(spec, OPENVINO.variant("int8-sdpa")) == []
    assert OPENVINO.fits(spec, OPENVINO.variant("int8-pa")) == ([reason] if reason else [])


def test_all_limits_are_told_at_once(tmp_path: Path) -> None:
    spec = model(tmp_path, kv_lora_rank=32, index_topk=64)
    assert OPENVINO.fits(spec, OPENVINO.variant("fp16-pa")) == [
        KEYS.format("index_topk 64"),
        "needs keys and values in the cache for paged attention; found kv_lora_rank 32",
    ]


@pytest.mark.parametrize(
    ("architecture", "tried"), [("LlamaForCausalLM", True), ("SeedOssForCausalLM", True), ("NewForCausalLM", False)]
)
def test_what_nobody_tried_is_a_candidate_and_said_to_be_one(architecture: str, tried: bool, tmp_path: Path) -> None:
    found = verdict(model(tmp_path, **named(architecture), **LONG), table={"llama": architecture}, tmp_path=tmp_path)
    assert found.legal
    assert found.tried is tried
    note = f"{architecture} was not tried by us; its output is checked"
    assert (note in found.notes) is not tried


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (named("NewForCausalLM", model_type="new"), "NewForCausalLM"),
        (named("T5Model", model_type="t5"), "T5Model"),
        (named("LlamaModel"), "model_type llama"),
        (named("LlavaForConditionalGeneration", model_type="llava", vision_config={"depth": 2}),
         "LlavaForConditionalGeneration"),
    ],
)  # fmt: skip
def test_what_the_installed_transformers_builds_no_causal_model_of_is_refused(
    fields: dict[str, Any], found: str, tmp_path: Path
) -> None:
    told = verdict(model(tmp_path, **fields, **LONG), table={"llama": "LlamaForCausalLM"}, tmp_path=tmp_path)
    assert [reason.text for reason in told.reasons] == [
        f"needs an architecture that OpenVINO GenAI knows; found {found}"
    ]


def test_what_finds_none_of_its_weights_is_refused(tmp_path: Path) -> None:
    seeing = "Emu3ForConditionalGeneration"
    spec = model(tmp_path, **named(seeing, model_type="emu3"), **LONG, vision_config={"depth": 2})
    told = verdict(spec, table={"emu3": "Emu3ForCausalLM"}, sees={"emu3": seeing}, tmp_path=tmp_path)
    (reason,) = told.reasons
    assert reason.text == (
        "needs an architecture that OpenVINO GenAI runs right; Emu3ForConditionalGeneration: its language model is"
        " built alone, and finds none of its weights: they are named text_model (transformers 5.23.0"
        " conversion_mapping.py)"
    )


@pytest.mark.parametrize("fields", [{}, {"vision_config": {"depth": 2}}])
def test_a_model_that_sees_is_run_for_its_text(fields: dict[str, Any], tmp_path: Path) -> None:
    seeing = "Gemma3ForConditionalGeneration"
    spec = model(tmp_path, **named(seeing, model_type="gemma3"), **LONG, **fields)
    told = verdict(spec, table={"gemma3": seeing}, tmp_path=tmp_path)
    assert told.legal
    note = f"of {seeing} it has no vision part: it writes text and sees nothing"
    assert (note in told.notes) is bool(fields)


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, []),
        ({"quant_method": "fp8"}, ["needs fp8 with strategy block; found strategy tensor"]),
        ({"quant_method": "mxfp4"}, []),
    ],
)
def test_fp8_with_a_scale_for_each_block_and_mxfp4_are_dequantised(
    fields: dict[str, Any], reasons: list[str], tmp_path: Path
) -> None:
    config = {"activation_scheme": "dynamic", **fields}
    spec = model(tmp_path, quantization_config=config, **LONG)
    found = verdict(spec, table={"llama": "LlamaForCausalLM"}, tmp_path=tmp_path)
    assert [reason.text for reason in found.reasons] == reasons


def verdict(
    spec: ModelSpec, *, table: Mapping[str, str], sees: Mapping[str, str] | None = None, tmp_path: Path
) -> Verdict:
    """Of openvino:fp16-sdpa where a transformers is installed that builds these models of these model types.

    Args:
        table: causal language models.
        sees: models that see and write.
    """
    file = tmp_path / "site" / "transformers" / "models" / "auto" / "modeling_auto.py"
    file.parent.mkdir(parents=True)
    mappings = {"MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": table, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES": sees or {}}
    with file.open("w") as modeling_auto:
        for mapping, classes in mappings.items():
            lines = "".join(f'        ("{kind}", "{name}"),\n' for kind, name in classes.items())
            modeling_auto.write(f"\n{mapping} = OrderedDict(\n    [\n{lines}    ]\n)\n")
    versions = {
        "accelerate": "1.15", "openvino-genai": "2026.4.1", "openvino": "2026.4.1", "numpy": "2.3", "nncf": "3.4",
        "torch": "2.13", "transformers": "5.23.0",
    }  # fmt: skip
    there = installation(versions, site_packages=(tmp_path / "site",))
    machine = host(installations={"openvino": there})
    verdicts = judge(spec, machine, Demand.of(), {"openvino": OPENVINO})
    return next(v for v in verdicts if v.candidate == Candidate(backend="openvino", variant="fp16-sdpa"))
