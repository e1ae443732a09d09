"""How TurboMind reads a quantised checkpoint, told from config.json and the names of its tensors."""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.turbomind.adapter import TurboMind
from selector.model.spec import ModelSpec
from tests.selector.conftest import A100

QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "dtype": "float16", "hidden_size": 512,
    "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 320, "max_position_embeddings": 1024,
}  # fmt: skip
GLM = QWEN2 | {
    "architectures": ["Glm4MoeLiteForCausalLM"], "model_type": "glm4_moe_lite", "num_key_value_heads": 4,
    "q_lora_rank": 256, "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256,
    "moe_intermediate_size": 128, "n_routed_experts": 64, "n_shared_experts": 1, "num_experts_per_tok": 4,
    "n_group": 1, "topk_group": 1, "mlp_layer_types": ["dense", "sparse"], "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_5 = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "text_config": {
        **QWEN2, "architectures": None, "model_type": "qwen3_5_text", "head_dim": 256, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "layer_types": ["linear_attention", "full_attention"],
    },
}  # fmt: skip

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
WEIGHTS = {"num_bits": 4, "group_size": 32, "strategy": "group", "symmetric": True, "type": "int"}
GROUP = {"format": "pack-quantized", "targets": ["Linear"], "weights": WEIGHTS}
INT4 = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": GROUP}}


def reasons(folder: Path, config: Mapping[str, Any], quant: Mapping[str, Any] | None) -> list[str]:
    """What TurboMind itself has against a model on an A100."""
    declared = {"quantization_config": quant} if quant else {}
    (folder / "config.json").write_text(json.dumps({**config, **declared}))
    backend = TurboMind()
    return backend.fits(ModelSpec.read(folder), backend.variant("default"), A100)


def without(declared: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in declared.items() if name not in names}


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (AWQ, None),
        (AWQ | {"version": "GEMM"}, 'needs "version": "gemm" in quantization_config, so written; found GEMM'),
        (without(AWQ, "version"), 'needs "version": "gemm" in quantization_config, so written; found none'),
        (AWQ | {"group_size": None}, "needs a number as quantization_config.group_size, or none at all; found null"),
        (AWQ | {"quant_method": "AWQ"}, "needs quant_method awq, so written; found AWQ"),
        (without(AWQ, "quant_method"), "needs quant_method awq, so written; found none"),
        (GPTQ, None),
        (GPTQ | {"checkpoint_format": "gptq_v2"}, "needs checkpoint_format gptq; found gptq_v2"),
        (FP8, None),
        (FP8 | {"fmt": "e5m2"}, "needs fp8 weights in e4m3; found e5m2"),
        (INT4, None),
        (
            INT4 | {"config_groups": {"group_0": without(GROUP, "format")}},
            "needs format pack-quantized in config_groups.group_0, where it is read; found it beside config_groups",
        ),
        (INT4 | {"config_groups": {"all": GROUP}}, "needs config_groups.group_0 alone; found ['all']"),
        (
            INT4 | {"config_groups": {"group_0": GROUP | {"weights": without(WEIGHTS, "type")}}},
            "needs type in config_groups.group_0.weights; found none",
        ),
        (
            INT4 | {"config_groups": {"group_0": GROUP | {"weights": WEIGHTS | {"actorder": "group"}}}},
            "needs weights in their own order; found actorder group",
        ),
        (INT4 | {"ignore": ["re:("]}, None),
    ],
)
def test_what_is_read_of_a_declaration(declared: Mapping[str, Any], reason: str | None, tmp_path: Path) -> None:
    assert reasons(tmp_path, QWEN2, declared) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("file", "declared"),
    [("quantize_config.json", without(GPTQ, "quant_method")), ("quant_config.json", {"w_bit": 4, "q_group_size": 128})],
)
def test_a_format_that_is_told_beside_config_json(file: str, declared: Mapping[str, Any], tmp_path: Path) -> None:
    (tmp_path / file).write_text(json.dumps(declared))
    assert reasons(tmp_path, QWEN2, None) == [
        "needs the format in config.json's quantization_config, which alone is read; found it elsewhere"
    ]


MLA = [f"model.layers.0.self_attn.{name}" for name in ("q_b_proj", "kv_b_proj", "o_proj")]


@pytest.mark.parametrize(
    ("declared", "quantised"),
    [
        (AWQ, True),
        (AWQ | {"modules_to_not_convert": ["self_attn"]}, False),
        (AWQ | {"modules_to_not_convert": ["q_b_proj", "q_proj", "kv_b_proj", "o_proj"]}, False),
        (AWQ | {"modules_to_not_convert": ["layers.0.self_attn"]}, True),
        (GPTQ | {"dynamic": {"-:.*self_attn.*": {}, "+:.*mlp.*": {"bits": 4}}}, False),
        (GPTQ | {"dynamic": {"+:.*self_attn.*": {"bits": 4}}}, True),
        (FP8 | {"modules_to_not_convert": ["self_attn"]}, False),
        (INT4 | {"ignore": ["re:.*self_attn.*"]}, False),
        (INT4 | {"ignore": ["lm_head", *MLA]}, True),
    ],
)
def test_multi_head_latent_attention_must_be_left_plain(
    declared: Mapping[str, Any], quantised: bool, tmp_path: Path
) -> None:
    found = [reason for reason in reasons(tmp_path, GLM, declared) if "MLA" in reason]
    assert bool(found) is quantised
    assert all(r.startswith("needs MLA left plain, since its weights are multiplied with each other;") for r in found)


def safetensors(file: Path, names: Iterable[str]) -> None:
    """A file with such tensors, each of no elements."""
    header = json.dumps({name: {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize("indexed", [True, False])
def test_where_the_weights_are_here_their_names_tell(indexed: bool, tmp_path: Path) -> None:
    def write(*names: str) -> None:
        if indexed:
            shard = "model-00001-of-00001.safetensors"
            (tmp_path / shard).write_bytes(b"")
            index = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
            (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        else:
            safetensors(tmp_path / "model.safetensors", names)

    plain = [f"model.layers.0.self_attn.{name}.weight" for name in ("q_b_proj", "kv_b_proj", "o_proj")]
    write(*plain)
    assert not any("MLA" in reason for reason in reasons(tmp_path, GLM, AWQ))
    write(*plain[:2], "model.layers.0.self_attn.o_proj.qweight")
    assert (
        "needs MLA left plain, since its weights are multiplied with each other;"
        " found model.layers.0.self_attn.o_proj quantised"
    ) in reasons(tmp_path, GLM, AWQ)


@pytest.mark.parametrize("content", [b"", b"\xff" * 32, struct.pack("<Q", 4) + b"null"])
def test_a_file_that_holds_no_names_tells_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert not any(
        "MLA" in reason for reason in reasons(tmp_path, GLM, AWQ | {"modules_to_not_convert": ["self_attn"]})
    )
    assert any("MLA" in reason for reason in reasons(tmp_path, GLM, AWQ))


@pytest.mark.parametrize(
    ("declared", "refused"),
    [
        (GPTQ, False),
        (GPTQ | {"dynamic": {"-:.*linear_attn.*": {}}}, False),
        (GPTQ | {"dynamic": {r"-:.*in_proj_[ab]": {}}}, True),
        (AWQ | {"modules_to_not_convert": ["in_proj_a", "in_proj_b"]}, False),
    ],
)
def test_linear_attention_in_gptq_is_quantised_whole_or_not(
    declared: Mapping[str, Any], refused: bool, tmp_path: Path
) -> None:
    found = [reason for reason in reasons(tmp_path, QWEN3_5, declared) if "in_proj" in reason]
    layer = "model.language_model.layers.0.linear_attn"
    text = (
        "needs gptq for all of in_proj_qkv, z, b and a or for none;"
        f" found {layer}.in_proj_qkv, {layer}.in_proj_z quantised alone"
    )
    assert found == ([text] if refused else [])


def test_an_absurd_pattern_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs regular expressions in quantization_config; found '\('"):
        reasons(tmp_path, GLM, INT4 | {"ignore": ["re:("]})
