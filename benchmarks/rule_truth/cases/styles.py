"""The two styles of config.json: as transformers 5 writes it, and as most published checkpoints have it."""

import json
from collections.abc import Mapping
from typing import Any

NOT_PUBLISHED = ("transformers_version", "_name_or_path", "output_attentions")


def newest(config: Any, architecture: str, dtype: str) -> dict[str, Any]:
    """As transformers 5 saves a config: `rope_parameters`, `dtype`."""
    content: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return {**content, "architectures": [architecture], "dtype": dtype}


def published(content: Mapping[str, Any]) -> dict[str, Any]:
    """A config of the newest style with rope_theta and rope_scaling at the top, and torch_dtype.

    What the older style has no words for stays as it is: rotations that differ by kind of layer in another way than
    Gemma 3's.
    """
    written = _older(content)
    for name in ("text_config", "llm_config"):
        if isinstance(written.get(name), dict):
            written[name] = _older(written[name])
    return written if _means_the_same(written, content) else {**content, "torch_dtype": content["dtype"]}


def _older(content: Mapping[str, Any]) -> dict[str, Any]:
    written = {name: value for name, value in content.items() if name not in NOT_PUBLISHED}
    if "dtype" in written:
        written["torch_dtype"] = written.pop("dtype")
    match written.get("rope_parameters"):
        case {"full_attention": {**full}, "sliding_attention": {"rope_theta": local}}:
            del written["rope_parameters"]
            written |= {"rope_theta": full.pop("rope_theta"), "rope_local_base_freq": local}
            written["rope_scaling"] = full if full.get("rope_type") != "default" else None
        case {"rope_theta": theta, **rest}:
            del written["rope_parameters"]
            written["rope_theta"] = theta
            if "partial_rotary_factor" in rest:
                written["partial_rotary_factor"] = rest.pop("partial_rotary_factor")
            written["rope_scaling"] = rest if rest.get("rope_type", "default") != "default" else None
    return written


def _means_the_same(written: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """transformers reads the same rotations out of both."""
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[content["model_type"]]
    try:
        ours, theirs = (config_class.from_dict(dict(each)).to_dict() for each in (written, content))
    except Exception:  # noqa: BLE001  whatever a config class raises on a style that it cannot read
        return False
    for name in ("dtype", "torch_dtype"):
        ours.pop(name, None), theirs.pop(name, None)
    return _rotations(ours) == _rotations(theirs)


def _rotations(content: Mapping[str, Any]) -> list[Any]:
    inner = [content.get(name) for name in ("text_config", "llm_config")]
    return [each.get("rope_parameters") for each in (content, *inner) if isinstance(each, Mapping)]
