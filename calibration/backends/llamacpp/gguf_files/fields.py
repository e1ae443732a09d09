"""The fields that llama.cpp's converter asks of a config, from those that mean the same."""

from collections.abc import Callable
from typing import Any

_Config = dict[str, Any]


def name_more_fields(base: Any) -> None:
    """Has the converter (its module conversion.base) read every config so."""
    load, begin = base.ModelBase.load_hparams, base.ModelBase.__init__

    def named(*arguments: Any, **more: Any) -> Any:
        return named_for_the_converter(load(*arguments, **more))

    def with_names(self: Any, *arguments: Any, hparams: Any = None, **more: Any) -> None:
        # Classes of Mamba's family read config.json themselves.
        begin(self, *arguments, hparams=None if hparams is None else named_for_the_converter(hparams), **more)

    base.ModelBase.load_hparams = staticmethod(named)
    base.ModelBase.__init__ = with_names


def named_for_the_converter(config: _Config) -> _Config:
    """A config with the fields that the converter asks for, from those that mean the same.

    transformers 5.23.0 models/*/configuration_*.py; llama.cpp conversion/*.py, each in the class of that name.
    """
    architecture = (config.get("architectures") or [None])[0]
    asked = _ASKED[architecture](config) if architecture in _ASKED else {}
    lacking = {name: value for name, value in asked.items() if config.get(name) in (None, [])}
    return config | lacking | _meant_otherwise(architecture, config)


_NO_LAST_POSITION = 1 << 20
"""Context of a model without position embeddings, as the converter itself says it of Mamba. Else it takes the width."""
_ATTENDING = frozenset({"attention", "full_attention"})


def _rope(config: _Config) -> _Config:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _kinds(config: _Config) -> list[str]:
    return config.get("layer_types") or []


def _rotated(config: _Config) -> int:
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return int(head_dim * _rope(config).get("partial_rotary_factor", 1.0))


_ASKED: dict[str, Callable[[_Config], _Config]] = {
    "GPT2LMHeadModel": lambda config: {"n_ctx": config.get("n_positions")},
    "BloomForCausalLM": lambda _: {"seq_length": _NO_LAST_POSITION},
    "Cohere2ForCausalLM": lambda _: {"rotary_pct": 1.0},  # whole heads are rotated
    "GPTNeoXForCausalLM": lambda config: {"rotary_pct": _rope(config).get("partial_rotary_factor", 0.25)},
    "GlmForCausalLM": lambda config: {
        "seq_length": config.get("max_position_embeddings"),
        "layernorm_epsilon": config.get("rms_norm_eps", 1e-5),
        "rope_ratio": float(_rope(config).get("rope_theta") or config.get("rope_theta") or 1e4) / 1e4,
    },
    # What transformers computes.
    **dict.fromkeys(
        ("DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "ExaoneMoeForCausalLM"),
        lambda _: {"scoring_func": "sigmoid"},
    ),
    "Glm4MoeLiteForCausalLM": lambda config: {
        "scoring_func": "sigmoid",
        "first_k_dense_replace": (config.get("mlp_layer_types") or ["dense"]).count("dense"),
    },
    "FalconH1ForCausalLM": lambda config: {"head_dim": config["hidden_size"] // config["num_attention_heads"]},
    "BambaForCausalLM": lambda config: {
        "attn_layer_indices": [i for i, kind in enumerate(_kinds(config)) if kind in _ATTENDING]
    },
    # transformers knows one shared expert, as wide as each other one.
    "HunYuanMoEV1ForCausalLM": lambda config: {
        "moe_intermediate_size": [config["intermediate_size"]],
        "num_shared_expert": [1],
    },
    "MiniMaxM2ForCausalLM": lambda config: {"scoring_func": "sigmoid", "rotary_dim": _rotated(config)},
    "SolarOpenForCausalLM": lambda _: {"partial_rotary_factor": 1.0},  # the family of its class rotates a half
    # By these published configs tell layers with a window from others.
    "MiMoV2FlashForCausalLM": lambda config: {
        "swa_head_dim": config["head_dim"],
        "swa_num_attention_heads": config["num_attention_heads"],
        "swa_v_head_dim": config["v_head_dim"],
        "swa_num_key_value_heads": 2 * config["num_key_value_heads"],  # what transformers computes
        "topk_method": "noaux_tc",
        "layernorm_epsilon": config.get("rms_norm_eps", 1e-5),
        "hybrid_layer_pattern": [int(kind == "sliding_attention") for kind in _kinds(config)],
        "swa_rope_theta": _rope(config).get("sliding_attention", {}).get("rope_theta"),
    },
}
"""Architecture: fields that the converter asks for where a config lacks them."""


def _meant_otherwise(architecture: str | None, config: _Config) -> _Config:
    """Fields that the converter reads otherwise than transformers, as it should read them."""
    match architecture:
        case "FalconForCausalLM" if config.get("multi_query") and not config.get("new_decoder_architecture"):
            return {"num_kv_heads": 1}  # what is written there counts in other models alone
        case "GraniteMoeHybridForCausalLM" if _kinds(config):
            return {"layer_types": ["attention" if kind in _ATTENDING else "mamba" for kind in _kinds(config)]}
        case "HunYuanMoEV1ForCausalLM" if isinstance(config.get("moe_topk"), int):
            return {"moe_topk": [config["moe_topk"]]}
        case "MellumForCausalLM" | "LagunaForCausalLM" if set(_kinds(config)) == {"full_attention"}:
            return {"sliding_window": None}  # no layer has it; llama.cpp gives it to some, or stops
        case "MiMoV2FlashForCausalLM" if "full_attention" in _rope(config):
            return {"rope_parameters": dict(_rope(config)["full_attention"])}
    return {}
