"""What CTranslate2's loaders leave out of a model is a reason; what they read is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.ctranslate2 import CTranslate2Backend
from tests.selector.conftest import spec

BACKEND = CTranslate2Backend()
GELUS = "gelu or gelu_fast or gelu_new or gelu_pytorch_tanh"
UNCAPPED = {"final_logit_softcapping": None, "attn_logit_softcapping": None}


def found(folder: Path, model_type: str, config: dict[str, Any], **changes: Any) -> list[str]:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
    theta = 1e6 if model_type == "gemma3_text" else 1e4
    usual = {"dtype": "float32", "hidden_size": 64, "heads": 4, "kv_heads": 4, "head_dim": 16, "rope_theta": theta}
    model = spec(**{**usual, "model_type": model_type, "folder": folder, **changes})
    return BACKEND.fits(model, BACKEND.variant("float32"))


@pytest.mark.parametrize(
    ("model_type", "config", "reason"),
    [
        ("llama", {"hidden_act": "gelu"}, "needs hidden_act silu or swish, which the conversion has; found gelu"),
        ("qwen3", {"hidden_act": "relu"}, "needs hidden_act silu or swish, which the conversion has; found relu"),
        ("falcon", {"activation": "relu"}, "needs activation gelu, which the conversion has; found relu"),
        ("falcon", {"new_decoder_architecture": True},
         "needs new_decoder_architecture false, which the conversion takes; found true"),
        ("gemma", {"hidden_act": "relu"}, f"needs hidden_act {GELUS}, which the conversion has; found relu"),
        ("gemma", {"attention_bias": True},
         "needs attention_bias false, since the conversion leaves biases out; found true"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True},
         "needs scale_attn_by_inverse_layer_idx false, which the conversion takes; found true"),
        ("gpt2", {"scale_attn_weights": False},
         "needs scale_attn_weights true, which the conversion takes; found false"),
        ("gpt_bigcode", {"multi_query": False}, "needs multi_query true, which the conversion takes; found false"),
        ("bloom", {"apply_residual_connection_post_layernorm": True},
         "needs apply_residual_connection_post_layernorm false, which the conversion takes; found true"),
        ("gpt2", {"layer_norm_epsilon": 0.01},
         "needs layer_norm_epsilon 1e-05, which the engine takes; found 0.01"),
        ("gemma2", {**UNCAPPED, "query_pre_attn_scalar": 100},
         "needs query_pre_attn_scalar 16, which the engine takes; found 100"),
        ("gemma2", {**UNCAPPED, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0},
         "needs no attn_logit_softcapping, which the conversion leaves out; found 2"),
        ("gemma2", {"query_pre_attn_scalar": 16, "final_logit_softcapping": None},
         "needs no attn_logit_softcapping, which the conversion leaves out; found 50"),
        ("gemma3_text", {"query_pre_attn_scalar": 16, "final_logit_softcapping": 5},
         "needs no final_logit_softcapping, which the conversion leaves out; found 5"),
    ],
)  # fmt: skip
def test_what_a_loader_leaves_out(model_type: str, config: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert found(tmp_path, model_type, config) == [reason]


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("llama", {"hidden_act": "silu", "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 0.01}),
        ("llama", {"hidden_act": None}),
        ("mistral", {"hidden_act": "swish"}),
        ("gpt2", {"activation_function": "gelu", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True}),
        ("gemma", {"attention_bias": False, "hidden_act": "gelu"}),
        ("gemma2", {**UNCAPPED, "query_pre_attn_scalar": 16}),
        ("opt", {"activation_function": "relu", "do_layer_norm_before": False}),
        ("falcon", {"alibi": False, "parallel_attn": True}),
        ("falcon", {"alibi": True}),
    ],
)
def test_what_a_loader_reads(model_type: str, config: dict[str, Any], tmp_path: Path) -> None:
    assert found(tmp_path, model_type, config) == []


def test_head_dim_and_rotation(tmp_path: Path) -> None:
    assert found(tmp_path, "qwen2", {}, head_dim=32, architecture="Qwen2ForCausalLM") == [
        "needs head_dim 16 (hidden_size / heads) in Qwen2ForCausalLM; found 32"
    ]
    assert found(tmp_path, "qwen2", {}, head_dim=0, unknown=frozenset({"head_dim"})) == []
    assert found(tmp_path, "mistral", {}, head_dim=32) == []
    assert found(tmp_path, "falcon", {}, rope_theta=2345.0, architecture="FalconForCausalLM") == [
        "needs rope_theta 10000, which the conversion of FalconForCausalLM takes; found 2345"
    ]
    assert found(tmp_path, "falcon", {}, rope_theta=None, rope_type="none") == []
    assert found(tmp_path, "llama", {}, rope_theta=2345.0, rope_type="linear") == []
    # Up to the model's positions it is the default, which loaders take that read no scaling.
    assert found(tmp_path, "gemma", {}, rope_type="dynamic") == []
    assert found(tmp_path, "llama", {}, rope_type="dynamic") == [
        "needs rope type default or linear, which the converter has; found dynamic"
    ]
    # What the engine computes in no loader is for the rule of rope types.
    assert found(tmp_path, "gemma", {}, rope_type="yarn") == []
    assert found(tmp_path, "gemma", {}, rope_type="linear", architecture="GemmaForCausalLM") == [
        "needs rope type default, which the conversion of GemmaForCausalLM takes; found linear"
    ]


@pytest.mark.parametrize(
    "style",
    [
        {"rope_local_base_freq": 2345},
        {"rope_parameters": {"sliding_attention": {"rope_theta": 2345}, "full_attention": {"rope_theta": 1e6}}},
    ],
)
def test_the_theta_of_windowed_layers(style: dict[str, Any], tmp_path: Path) -> None:
    config = {"query_pre_attn_scalar": 16, **style}
    assert found(tmp_path, "gemma3_text", config) == [
        "needs rope_local_base_freq 10000, which the conversion takes; found 2345"
    ]
    assert found(tmp_path, "gemma3_text", {"query_pre_attn_scalar": 16}) == []


def test_fp8_is_converted_where_it_has_blocks() -> None:
    [fact] = BACKEND.facts.quants
    assert (fact.method, fact.block_shapes, fact.devices) == ("fp8", frozenset({(128, 128)}), frozenset({"cpu"}))
