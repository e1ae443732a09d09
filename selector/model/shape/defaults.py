"""What configs leave out and transformers' classes fill in."""

import json
from functools import cache
from pathlib import Path
from typing import Final

from selector.model.fields import Fields, Json

_DEFAULTS: Final[dict[str, dict[str, int]]] = {
    # transformers 5.23, models/*/configuration_*.py: what published configs leave out and the class fills in
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256, "num_key_value_heads": 4},
    "gemma3_text": {"head_dim": 256, "num_key_value_heads": 4},
    "glm": {"head_dim": 128, "num_key_value_heads": 2},
    "glm4": {"head_dim": 128, "num_key_value_heads": 2},
    "gpt_oss": {"head_dim": 64},
    "mistral": {"num_key_value_heads": 8},
    "mixtral": {"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    "phimoe": {"num_experts_per_tok": 2, "num_local_experts": 16},
    "qwen3": {"head_dim": 128},
    "qwen3_moe": {"num_experts": 128, "num_experts_per_tok": 8},
    "qwen2_moe": {"num_experts": 60, "num_experts_per_tok": 4},
}


def with_defaults(where: str, parts: list[Json], model_type: str) -> Fields:
    """The fields of a config, and between them what the class of the language model fills in.

    At the top of a config.json the sizes are never left out: there, a missing one is an error.

    Args:
        where: How messages name the config.
        parts: See language_parts.
        model_type: Of the innermost part.
    """
    inner, *outer = parts
    filled_in: Json = {}
    if outer and "auto_map" not in inner:  # a class of the repository's own has defaults of its own
        filled_in = {name: value for name, value in _class_defaults().get(model_type, {}).items() if name not in inner}
    return Fields(where, inner, filled_in, *outer, _DEFAULTS.get(model_type, {}))


@cache
def _class_defaults() -> dict[str, dict[str, int]]:
    """By model type; written by `python -m tests.selector.model.transformers.classes`."""
    defaults: dict[str, dict[str, int]] = json.loads((Path(__file__).parent / "class_defaults.json").read_bytes())
    return defaults
