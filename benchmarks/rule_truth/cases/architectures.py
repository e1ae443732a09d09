"""The architectures that transformers builds as causal language models, each shrunk by its own fields."""

import copy
from typing import Any

from benchmarks.rule_truth.cases.small import OWN, SMALL, WHOLE

MOST_PARAMETERS = 20_000_000


class NoSuchField(ValueError):
    """A config class has none of the fields that are to be changed."""


def model_types() -> dict[str, str]:
    """Model type: the class that AutoModelForCausalLM builds of it; without other names of a type."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    mapping: dict[str, Any] = {**MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    return {
        kind: WHOLE.get(kind) or (names if isinstance(names, str) else names[0])
        for kind, names in mapping.items()
        if CONFIG_MAPPING[kind].model_type == kind
    }


def config_of(model_type: str, **changes: Any) -> Any:
    """A small config of a type, as an object of transformers.

    Args:
        changes: fields that the config class has and that are to be otherwise; what it has not is left out.

    Raises:
        NoSuchField: there is nothing to change.
    """
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    known = config_class().to_dict()
    changed = {name: value for name, value in changes.items() if name in known}
    if changes and not changed:
        raise NoSuchField(f"{config_class.__name__} has no {' or '.join(changes)}")
    # Copied: some config classes write into the dictionaries that they are given.
    small = _merged(_shrunk(config_class, known), OWN.get(model_type, {}))
    return config_class(**copy.deepcopy({**small, **changed}))


def _shrunk(config_class: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a config class: its own fields, small.

    Args:
        known: what the class fills in.
    """
    nested = {
        name: _shrunk(inner, inner().to_dict())
        for name, inner in config_class.sub_configs.items()
        if hasattr(inner, "sub_configs")
    }
    own = {
        name: small
        for name, small in SMALL.items()
        if known.get(name) is not None and not isinstance(known[name], list)
    }
    if "qk_rope_head_dim" in own:
        # With a latent cache all heads have keys of their own, and the rotated part is transformers' head_dim.
        own |= {"num_key_value_heads": SMALL["num_attention_heads"]}
        own |= {"head_dim": own["qk_rope_head_dim"]} if "head_dim" in own else {}
    return {**own, **{name: fields for name, fields in nested.items() if fields}}


def _merged(fields: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Fields, and those of their parts, with what is in `own` instead."""
    parts = {
        name: _merged(fields[name], own[name]) for name in fields.keys() & own.keys() if _are_parts(fields, own, name)
    }
    return {**fields, **own, **parts}


def _are_parts(fields: dict[str, Any], own: dict[str, Any], name: str) -> bool:
    return isinstance(fields[name], dict) and isinstance(own[name], dict)
