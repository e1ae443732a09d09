"""Writes the configs of every language model that transformers knows, and prints what its classes make of each.

python -m tests.selector.model.transformers.configs FOLDER
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

CLASSES: dict[str, Any] = {
    "causal": (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForCausalLM),
    "vision": (modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, transformers.AutoModelForImageTextToText),
    "sound": (
        {
            model_type: class_name
            for model_type, class_name in modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.items()
            if model_type not in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        },
        transformers.AutoModelForMultimodalLM,
    ),
}

NAMES = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""ModelSpec's names, and those under which transformers gives the same numbers, whatever a config calls them."""


WIDTH = "intermediate_size"


def write_all(folder: Path) -> dict[str, dict[str, Any]]:
    """By model: the folders of its configs, its numbers and parameters, or why its class cannot be made."""
    truths: dict[str, dict[str, Any]] = {}
    for kind, (classes, auto) in CLASSES.items():
        for model_type, class_names in classes.items():
            name = f"{kind}-{model_type}"
            try:
                config = CONFIG_MAPPING[model_type]()
            except Exception as error:  # noqa: BLE001  a class that refuses its own defaults is told, not skipped
                truths[name] = {"no_config": f"{type(error).__name__}: {error}"}
                continue
            config.architectures = [class_names if isinstance(class_names, str) else class_names[0]]
            reading = {"folders": write(config, folder, name), "numbers": numbers(config), "rotated": rotated(config)}
            truths[name] = reading | make(config, auto)
    return truths


def write(config: Any, folder: Path, name: str) -> list[str]:
    """The config with every field, without those of a plain config's defaults, and as older versions wrote it."""
    differing = json.loads(config.to_json_string(use_diff=True))
    styles = {
        "whole": json.loads(config.to_json_string(use_diff=False)),
        "differing": differing,
        "older": older(differing, config),
    }
    for style, content in styles.items():
        place = folder / f"{name}-{style}"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(content))
    return [f"{name}-{style}" for style in styles]


def older(content: dict[str, Any], config: Any, *, inner: bool = False) -> dict[str, Any]:
    """As transformers 4 wrote it: torch_dtype, rope_theta, rope_scaling; no defaults of the class in inner configs."""
    content = dict(content)
    rope = content.pop("rope_parameters", None)
    if isinstance(rope, dict) and "rope_theta" in rope:
        scaling = {("type" if key == "rope_type" else key): value for key, value in rope.items() if key != "rope_theta"}
        content["rope_theta"] = rope["rope_theta"]
        content["rope_scaling"] = None if scaling == {"type": "default"} else scaling
    elif rope:
        content["rope_scaling"] = rope
    if "dtype" in content:
        content["torch_dtype"] = content.pop("dtype")
    for key, value in content.items():
        part = vars(config).get(key)
        if isinstance(part, transformers.PreTrainedConfig) and value.get("model_type"):
            content[key] = older(value, part, inner=True)
    if not inner:
        return content
    defaults = older(json.loads(type(config)().to_json_string(use_diff=True)), type(config)())
    computed = {field.name for field in dataclasses.fields(config) if field.default is None}
    kept = {
        key
        for key, value in content.items()
        if isinstance(value, list) or defaults.get(key) != value or key in computed
    }
    return {key: value for key, value in content.items() if key in kept or key == "model_type"}


def numbers(config: Any) -> dict[str, int]:
    """Of the language model, as its class names them."""
    language = config.get_text_config(decoder=True)
    if language.attribute_map.get("intermediate_size") == "moe_intermediate_size":  # all layers have experts
        return {"expert_intermediate_size": language.moe_intermediate_size} | numbers_of(language, set(NAMES) - {WIDTH})
    return numbers_of(language, set(NAMES))


def numbers_of(language: Any, names: set[str]) -> dict[str, int]:
    """Those that all layers share."""
    values = {name: number(language, NAMES[name]) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def rotated(config: Any) -> bool:
    """The class of the language model has settings of rotary positions."""
    fields = dataclasses.fields(config.get_text_config(decoder=True))
    return any("rope" in field.name or "rotary" in field.name for field in fields)


def number(config: Any, name: str) -> int | None:
    if config.is_heterogeneous and name in config.per_layer_attributes:
        return None
    value = getattr(config, config.attribute_map.get(name, name), None)
    value = max(value) if isinstance(value, list) and value else value
    return value if isinstance(value, int) else None


def make(config: Any, auto: Any) -> dict[str, Any]:
    """How many parameters the class allocates; nothing is, on this device."""
    try:
        with torch.device("meta"):
            model = auto.from_config(config)
    except Exception as error:  # noqa: BLE001  what a class needs beyond its own defaults is of any kind
        return {"not_made": f"{type(error).__name__}: {error}"}
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    (Path(sys.argv[1]) / "truths.json").write_text(json.dumps(write_all(Path(sys.argv[1]))))
