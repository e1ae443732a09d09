"""What llama.cpp takes for given, told from a config.json: each case was loaded, and was wrong or failed."""

import json
from pathlib import Path

import pytest

from calibration.registry import find
from selector.demand.demand import Demand
from selector.rules.judge import judge
from tests.selector.conftest import host, spec


def found(folder: Path, architecture: str, config: dict[str, object], **model: object) -> list[str]:
    (folder / "config.json").write_text(json.dumps(config))
    judged = spec(architecture=architecture, folder=folder, dtype="float32", **model)
    [verdict] = [
        v for v in judge(judged, host(), Demand(), {"llamacpp": find("llamacpp")}) if v.candidate.variant == "f32"
    ]
    return [reason.text for reason in verdict.reasons if reason.rule == "own_limits"]


@pytest.mark.parametrize(
    ("architecture", "config", "model", "reason"),
    [
        ("PhiForCausalLM", {}, {"tie_word_embeddings": True, "kv_heads": 32, "rope_theta": 1e4},
         "needs a head of its own, which llama.cpp loads for PhiForCausalLM; found tied embeddings"),
        ("GemmaForCausalLM", {}, {"tie_word_embeddings": False, "rope_theta": 1e4},
         "needs tied embeddings, which llama.cpp takes for GemmaForCausalLM; found a head of its own"),
        ("Qwen3ForCausalLM", {"hidden_act": "gelu"}, {},
         "needs hidden_act silu, which llama.cpp computes for Qwen3ForCausalLM; found gelu"),
        ("Qwen3ForCausalLM", {"attention_bias": True}, {},
         "needs attention_bias False, which llama.cpp takes for Qwen3ForCausalLM; found True"),
        ("Qwen2ForCausalLM", {}, {"head_dim": 64},
         "needs heads that make up hidden_size (4096) for Qwen2ForCausalLM; found 32 of 64"),
        ("Qwen2ForCausalLM", {}, {"rope_type": "llama3"},
         ("needs rope type default or dynamic or linear or yarn, which the converter writes for Qwen2ForCausalLM;"
          " found llama3")),
        ("Qwen2ForCausalLM", {"rope_parameters": {"factor": 4.0, "attention_factor": 1.5}}, {"rope_type": "yarn"},
         "needs attention_factor 1.139, which llama.cpp computes from the factor; found 1.5"),
        ("DeepseekV2ForCausalLM", {"n_group": 4}, {},
         "needs one group of experts, since llama.cpp ranks groups otherwise than DeepseekV2ForCausalLM; found 4"),
        ("Dots1ForCausalLM", {}, {"kv_heads": 2, "rope_theta": 1e4},
         "needs as many key heads as heads (32) for Dots1ForCausalLM; found 2"),
        ("Ernie4_5_MoeForCausalLM",
         {"moe_num_shared_experts": 2, "moe_intermediate_size": 32, "intermediate_size": 128, "num_key_value_heads": 4},
         {},
         ("needs shared experts as wide as intermediate_size / num_key_value_heads (32), which the converter writes for"
          " Ernie4_5_MoeForCausalLM; found 64")),
        ("DeepseekV32ForCausalLM", {"index_head_dim": 16}, {},
         "needs an index_head_dim that 64 divides for DeepseekV32ForCausalLM; found 16"),
        ("Lfm2ForCausalLM", {"layer_types": ["full_attention", "full_attention"]}, {"head_dim": 128},
         "needs a layer of kind conv, or llama.cpp aborts; found none"),
        ("Llama4ForCausalLM", {"attention_chunk_size": 16}, {},
         "needs attention_chunk_size 8192, which llama.cpp takes for Llama4ForCausalLM; found 16"),
        ("GraniteForCausalLM", {}, {"rope_type": "llama3"},
         ("needs rope type default or dynamic or linear or yarn, which the converter writes for GraniteForCausalLM;"
          " found llama3")),
        ("Qwen3_5ForCausalLM", {"layer_types": ["linear_attention"]}, {"head_dim": 16},
         "needs a head_dim of at least 32, the sum of mrope_section, for Qwen3_5ForCausalLM; found 16"),
        ("Qwen4ExpForCausalLM", {"layer_types": ["linear_attention"]}, {"head_dim": 16},
         "needs a head_dim of at least 32, the sum of mrope_section, for Qwen4ExpForCausalLM; found 16"),
        ("PhimoeForCausalLM", {"attention_bias": True}, {"head_dim": 128},
         "needs lm_head_bias True, which llama.cpp takes for PhiMoEForCausalLM; found False"),
        ("LagunaForCausalLM", {"layer_types": ["sliding_attention", "full_attention"]}, {"layers": 2},
         "needs full attention in the first of each four layers alone; found other layers"),
        ("Gemma3nForCausalLM", {"altup_num_inputs": 2}, {},
         "needs altup_num_inputs 4, which llama.cpp takes for Gemma3nForCausalLM; found 2"),
        ("Phi3ForCausalLM",
         {"original_max_position_embeddings": 4096, "rope_scaling": {"rope_type": "longrope", "factor": 8.0}},
         {"rope_type": "longrope", "max_position": 512},
         "needs an attention factor of 1, which the converter writes; found 1.118"),
        ("MiMoV2FlashForCausalLM",
         {"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.334}}, "norm_topk_prob": True},
         {"head_dim": 16}, "needs an even number of rotated values in a head; found 5 of 16"),
        ("Gemma2ForCausalLM", {"final_logit_softcapping": None, "query_pre_attn_scalar": 128},
         {"rope_theta": 1e4, "tie_word_embeddings": True},
         "needs final_logit_softcapping, which the converter writes for Gemma2ForCausalLM; found null"),
        ("Gemma3ForCausalLM", {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 128}, {},
         "needs no attn_logit_softcapping for Gemma3ForCausalLM; found 2.0"),
        ("NemotronHForCausalLM", {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]}, {},
         "needs no dense layer for NemotronHForCausalLM; found mlp in layers_block_type"),
        ("LlamaForCausalLM",
         {"quantization_config": {"quant_method": "compressed-tensors",
                                  "config_groups": {"group_0": {"format": "pack-quantized"}}}}, {},
         "needs format in quantization_config itself, where the converter reads it; found none there"),
        ("LlamaForCausalLM",
         {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
                                  "config_groups": {"group_0": {}, "group_1": {}}}}, {},
         "needs one group in config_groups, which is all that the converter takes; found 2"),
        ("Qwen2MoeForCausalLM", {"decoder_sparse_step": 2}, {},
         "needs experts in every layer to convert; found dense layers among them"),
        ("Qwen3NextForCausalLM",
         {"mlp_only_layers": [0], "norm_topk_prob": True, "layer_types": ["linear_attention"]}, {},
         "needs experts in every layer to convert; found dense layers among them"),
        ("Glm4MoeLiteForCausalLM", {"mlp_layer_types": ["sparse", "dense"]}, {"layers": 2},
         "needs its dense layers first in mlp_layer_types for Glm4MoeLiteForCausalLM; found other layers"),
        ("Glm4MoeLiteForCausalLM", {"q_lora_rank": None}, {"layers": 4},
         "needs a q_lora_rank, which llama.cpp takes for Glm4MoeLiteForCausalLM of 4 layers; found none"),
        ("DeepseekV3ForCausalLM", {"vocab_size": 128256}, {"layers": 48},
         "needs no q_lora_rank, which llama.cpp takes for DeepseekV3ForCausalLM of 48 layers; found one"),
        ("DeepseekV2ForCausalLM", {"q_lora_rank": None}, {"layers": 4},
         "needs a q_lora_rank, which llama.cpp takes for DeepseekV2ForCausalLM of 4 layers; found none"),
    ],
)  # fmt: skip
def test_what_is_taken_for_given(
    architecture: str, config: dict[str, object], model: dict[str, object], reason: str, tmp_path: Path
) -> None:
    assert found(tmp_path, architecture, config, **model) == [reason]
