"""Overrides: what `per_layer_config` of transformers 5 says of single layers, over what the config says of all."""

from selector.model.fields import Fields, Json
from selector.model.shape.limits import MOST_LAYERS


def read_overrides(fields: Fields, layers: int) -> tuple[Fields, ...]:
    """The fields of each layer: its own, then those of the config; empty where no layer has any of its own.

    Raises:
        ModelError: a layer that the model does not have, or a layer's fields are no object.
    """
    table = fields.table("per_layer_config")
    if not table:
        return ()
    own: dict[int, Json] = {}
    for name, layer_fields in table.items():
        if not (name.isdecimal() and len(name) <= len(str(MOST_LAYERS)) and int(name) < layers):
            raise fields.refuse("per_layer_config", f"the number of one of the {layers} layers", name)
        if type(layer_fields) is not dict:
            raise fields.refuse("per_layer_config", "an object for each layer", layer_fields)
        own[int(name)] = layer_fields
    where = f"{fields.where}: per_layer_config"
    return tuple(Fields(where, own.get(layer, {}), *fields.sources, mend=fields.mend) for layer in range(layers))


def in_every_layer(overrides: tuple[Fields, ...]) -> Json:
    """Numbers that every layer has of its own, which the config may leave out for all: the largest of each."""
    if not overrides:
        return {}
    names = set.intersection(*(set(layer.sources[0]) for layer in overrides))
    numbers = {name: [layer.sources[0][name] for layer in overrides] for name in names}
    return {name: max(values) for name, values in numbers.items() if all(type(value) is int for value in values)}


def skipped(layer: Fields, *parts: str) -> bool:
    """The layer does without one of these parts."""
    return bool(set(parts) & set(layer.first().texts("skip")))
