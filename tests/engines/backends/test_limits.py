"""What a converter does not read of a config, one field at a time: refused where the engine goes wrong, else not."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.registry import find
from selector.model.spec import ModelSpec
from selector.planning.subject import reference_variant
from tests.engines import tiny_models
from tests.engines.tiny_configs import CONFIGS
from tests.engines.tiny_models import unlike

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

VARIANT = {"ctranslate2": "float32", "onnxruntime": "fp32"}
THETA = {"rope_theta": 10000.0}
GEMMA2 = {**THETA, "final_logit_softcapping": None, "attn_logit_softcapping": None, "sliding_window": 64}
GEMMA3 = {"num_hidden_layers": 3, "sliding_window": 64}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 512,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "factor": 4.0}
ROTATED = {"no_rope_layers": [1, 1, 1]}
FALCON = {"rope_theta": 10000.0, "new_decoder_architecture": False, "multi_query": True, "num_kv_heads": 1}
SMOLLM3 = {**CONFIGS["llama"], "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "pad_token_id": 0}

RIGHT: list[tuple[str, str, dict[str, Any]]] = [
    ("ctranslate2", "falcon", FALCON),
    ("ctranslate2", "falcon", {**FALCON, "alibi": True}),
    ("ctranslate2", "llama", {"architectures": ["YiForCausalLM"]}),  # model_type decides
    ("ctranslate2", "llama", {"attention_bias": True, "mlp_bias": True}),
    ("ctranslate2", "llama", {"rms_norm_eps": 0.01}),
    ("ctranslate2", "qwen2", {"rope_scaling": LINEAR}),
    ("ctranslate2", "gpt2", {"activation_function": "relu"}),
    ("ctranslate2", "gemma2", GEMMA2),
    ("ctranslate2", "gemma3", GEMMA3),
    ("onnxruntime", "llama", {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 0.01}),
    ("onnxruntime", "llama", {"eos_token_id": None, "bos_token_id": None}),
    ("onnxruntime", "llama", {"rope_scaling": LLAMA3}),
    ("onnxruntime", "llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}),
    ("onnxruntime", "qwen2", {"rope_scaling": LINEAR}),
    ("onnxruntime", "qwen2", {"rope_scaling": YARN}),
    ("onnxruntime", "mistral", {"rope_scaling": LINEAR}),
    ("onnxruntime", "qwen3", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}),
    ("onnxruntime", "smollm3", ROTATED),
    ("onnxruntime", "gemma2", {"query_pre_attn_scalar": 100}),
]

WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("ctranslate2", "llama", {"hidden_act": "gelu"}, "needs hidden_act silu or swish"),
    ("ctranslate2", "gemma", {"attention_bias": True}, "needs attention_bias false"),
    ("ctranslate2", "gemma", {"rope_scaling": LINEAR}, "needs rope type default"),
    ("ctranslate2", "gemma2", {**GEMMA2, "rope_theta": 2345.0}, "needs rope_theta 10000"),
    ("ctranslate2", "gemma2", {**GEMMA2, "query_pre_attn_scalar": 100}, "needs query_pre_attn_scalar 16"),
    ("ctranslate2", "gemma3", {**GEMMA3, "rope_local_base_freq": 2345.0}, "needs rope_local_base_freq 10000"),
    ("ctranslate2", "gemma3", {**GEMMA3, "rope_scaling": LINEAR}, "needs rope type default"),
    ("ctranslate2", "gemma3", {**GEMMA3, "query_pre_attn_scalar": 100}, "needs query_pre_attn_scalar 16"),
    ("ctranslate2", "gemma3", {**GEMMA3, "final_logit_softcapping": 5.0}, "needs no final_logit_softcapping"),
    ("ctranslate2", "gpt2", {"scale_attn_by_inverse_layer_idx": True}, "needs scale_attn_by_inverse_layer_idx false"),
    ("ctranslate2", "gpt2", {"scale_attn_weights": False}, "needs scale_attn_weights true"),
    ("ctranslate2", "gpt2", {"layer_norm_epsilon": 0.1}, "needs layer_norm_epsilon 1e-05"),
    ("ctranslate2", "falcon", {"rope_theta": 10000.0}, "needs new_decoder_architecture false"),
    ("ctranslate2", "gptj", {"activation_function": "relu2"}, "needs activation_function gelu or"),
    ("onnxruntime", "llama", {"rope_scaling": LINEAR}, "needs rope type default or dynamic or llama3"),
    ("onnxruntime", "llama", {"hidden_act": "quick_gelu"}, "needs an activation of"),
    ("onnxruntime", "llama", {"head_dim": 24}, "needs a head_dim that 16 divides"),
    ("onnxruntime", "llama", {"partial_rotary_factor": 0.5, "head_dim": 32}, "needs partial_rotary_factor 1"),
    ("onnxruntime", "qwen2", {"rope_scaling": LLAMA3}, "needs rope type default or linear or yarn"),
    ("onnxruntime", "qwen2", {"rope_scaling": {**YARN, "truncate": True}}, "needs a YaRN with truncate false"),
    ("onnxruntime", "qwen2", {"rope_scaling": {**YARN, "attention_factor": 2.0}}, "needs an attention factor"),
    ("onnxruntime", "qwen2", {"rope_scaling": {**YARN, "beta_slow": None}}, "needs factor, beta_fast and beta_slow"),
    ("onnxruntime", "qwen2", {"rope_scaling": {**YARN, "original_max_position_embeddings": 64}},
     "needs a YaRN whose range of dimensions"),
    ("onnxruntime", "phi3", {"original_max_position_embeddings": 4096}, "needs rope type longrope"),
    ("onnxruntime", "smollm3", {"num_hidden_layers": 4}, "needs rotation in every layer"),
]  # fmt: skip


def made(name: str, changes: dict[str, Any], folder: Path) -> Path:
    """A checkpoint of a small model of which some fields are changed."""
    source = folder / "config"
    source.mkdir()
    config = {**(SMOLLM3 if name == "smollm3" else CONFIGS[name]), **changes}
    (source / "config.json").write_text(json.dumps(config))
    write_random_checkpoint(source, folder / "model")
    return folder / "model"


def reasons(backend: str, folder: Path) -> list[str]:
    return find(backend).fits(ModelSpec.read(str(folder)), find(backend).variant(VARIANT[backend]))


def goes_wrong(backend: str, folder: Path) -> bool:
    """It fails, or computes something else than transformers in fp32."""
    right = reference_variant(ModelSpec.read(str(folder))).name
    reference = tiny_models.load(find("transformers"), f"{right}-fp32", folder)
    try:
        engine = tiny_models.load(find(backend), VARIANT[backend], folder)
        return bool({"greedy tokens", "scores"} & set(unlike(engine, reference)))
    except Exception:  # noqa: BLE001  what a converter cannot convert shows in a hundred ways
        return True


def named(case: tuple[Any, ...]) -> str:
    backend, name, changes = case[:3]
    return "-".join([backend, name, *changes])


@pytest.mark.parametrize(("backend", "name", "changes"), RIGHT, ids=map(named, RIGHT))
def test_what_is_read_is_not_refused(backend: str, name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = made(name, changes, tmp_path)
    assert (reasons(backend, folder), goes_wrong(backend, folder)) == ([], False)


@pytest.mark.parametrize(("backend", "name", "changes", "reason"), WRONG, ids=map(named, WRONG))
def test_what_is_not_read_is_refused(
    backend: str, name: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = made(name, changes, tmp_path)
    [text] = reasons(backend, folder)
    assert text.startswith(reason)
    assert goes_wrong(backend, folder)
