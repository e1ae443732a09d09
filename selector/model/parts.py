"""Parts: the objects of a config.json that hold the language model."""

from calibration.config_json import INNER
from selector.model.fields import Json


def language_parts(content: Json) -> list[Json]:
    """The innermost part that holds the language model, then those around it, the whole last."""
    parts = [content]
    while len(parts) < 5:
        inner = [part for key in INNER if type(part := parts[0].get(key)) is dict and part]
        if not inner:
            break
        parts.insert(0, inner[0])
    return parts


def declares_quant(content: Json) -> bool:
    """The config itself says how the weights are quantized."""
    parts = language_parts(content)
    return any(part.get(key) for part in parts for key in ("quantization_config", "compression_config"))
