"""What a config.json says of a model's first layers: the ways in which configs tell of layers, one by one."""

from typing import Any

import pytest

from calibration.checkpoints.cut_config import cut_config, layer_lists, without_later_layers
from calibration.rung import Rung

RUNG = Rung(layers=3, of=8)
KINDS = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 2


@pytest.mark.parametrize(
    ("fields", "cut"),
    [
        ({"n_layer": 8}, {"n_layer": 3}),
        ({"num_layers": 8}, {"num_layers": 3}),
        ({"encoder_layers": 6, "decoder_layers": 8}, {"encoder_layers": 6, "decoder_layers": 3}),
        ({"layer_types": KINDS}, {"layer_types": KINDS[:3]}),
        # DeepSeek V4 goes on with an entry for the layer that predicts.
        ({"compress_ratios": [0, 0, 4, 128, 4, 128, 4, 128, 0]}, {"compress_ratios": [0, 0, 4]}),
        ({"hybrid_override_pattern": "M-M*M-M*"}, {"hybrid_override_pattern": "M-M"}),
        ({"sliding_window_pattern": "LLLG"}, {"sliding_window_pattern": "LLLG"}),
        ({"mlp_only_layers": [0, 2, 3, 7]}, {"mlp_only_layers": [0, 2]}),
        (
            {"linear_attn_config": {"full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7], "num_heads": 8}},
            {"linear_attn_config": {"full_attn_layers": [], "kda_layers": [1, 2, 3], "num_heads": 8}},
        ),
        ({"first_k_dense_replace": 1}, {"first_k_dense_replace": 1}),
        ({"max_window_layers": 8, "use_mrope": True}, {"max_window_layers": 3, "use_mrope": True}),
        ({"num_kv_shared_layers": 6}, {"num_kv_shared_layers": 1}),
        ({"num_kv_shared_layers": 4}, {"num_kv_shared_layers": 0}),
        ({"num_nextn_predict_layers": 1}, {"num_nextn_predict_layers": 0}),
        (
            {"moe_layer_start_index": 1, "moe_layer_end_index": 7},
            {"moe_layer_start_index": 1, "moe_layer_end_index": 2},
        ),
        ({"per_layer_config": {"2": {"a": 1}, "3": {"a": 2}}}, {"per_layer_config": {"2": {"a": 1}}}),
        ({"attention_types": [[["global", "local"], 4]]}, {"attention_types": [[["global", "local", "global"], 1]]}),
        ({"attention_types": [[["global", "local"], "x"]]}, {"attention_types": [[["global", "local"], "x"]]}),
    ],
)
def test_layers_are_told_in_many_ways(fields: dict[str, Any], cut: dict[str, Any]) -> None:
    before = repr(fields)
    assert cut_config({"num_hidden_layers": 8, **fields}, RUNG) == {"num_hidden_layers": 3, **cut}
    assert repr(fields) == before


def test_the_number_of_layers_may_be_left_out() -> None:
    assert cut_config({"layers_block_type": KINDS}, RUNG) == {"layers_block_type": KINDS[:3]}
    # The class of the text model says how many there are.
    assert cut_config({"text_config": {"hidden_size": 8}}, RUNG) == {
        "text_config": {"hidden_size": 8, "num_hidden_layers": 3}
    }


def test_only_the_language_model_is_cut() -> None:
    both = {"text_config": {"num_hidden_layers": 8}, "vision_config": {"num_hidden_layers": 8}}
    assert cut_config({"thinker_config": both, "talker_config": {"num_hidden_layers": 8}}, RUNG) == {
        "thinker_config": {**both, "text_config": {"num_hidden_layers": 3}},
        "talker_config": {"num_hidden_layers": 8},
    }


def test_what_is_as_long_by_chance_stays() -> None:
    fields = {
        "num_hidden_layers": 3,
        "architectures": ["A", "B", "C"],
        "eos_token_id": [1, 2, 3],
        "mrope_section": [16, 24, 24],
        "num_attention_heads": 3,
        "model_type": "abc",
        "rope_scaling": {"short_factor": [1.0, 1.0, 1.0]},
    }
    assert cut_config(fields, Rung(layers=2, of=3)) == {**fields, "num_hidden_layers": 2}
    assert list(layer_lists(fields, 3)) == []


def test_names_of_later_layers_leave_the_quantization() -> None:
    quant = {
        "modules_to_not_convert": [
            "lm_head",
            "model.layers.2.mlp.gate",
            "model.layers.3.mlp.gate",
            "model.layers.13",
            r"re:.*layers\.7\..*",
            "visual.blocks.7.attn",
        ],
        "bits": 4,
        "quantized_layers": {"model.layers.2.q_proj": {"quant_algo": "FP8"}, "model.layers.3.q_proj": {}},
    }
    cut = cut_config({"num_hidden_layers": 8, "quantization_config": quant}, RUNG)
    assert cut["quantization_config"] == without_later_layers(quant, 3) == {
        "modules_to_not_convert": ["lm_head", "model.layers.2.mlp.gate", "visual.blocks.7.attn"],
        "bits": 4,
        "quantized_layers": {"model.layers.2.q_proj": {"quant_algo": "FP8"}},
    }  # fmt: skip


def test_lists_by_layer() -> None:
    fields = {"num_hidden_layers": 8, "layer_types": KINDS, "text_config": {"hybrid_override_pattern": "MMMMMMMM"}}
    assert list(layer_lists(fields, 8)) == [KINDS, "MMMMMMMM"]
