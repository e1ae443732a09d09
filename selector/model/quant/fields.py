"""The fields that quantization configs share: bits, group sizes, block shapes, names, and the KV cache's format."""

import re

from selector.model.fields import Fields


def bits(fields: Fields, *names: str, default: int | None = None) -> int | None:
    """Bits of a number."""
    return fields.whole(*names, most=64, default=default)


def group_size(fields: Fields, *names: str, default: int | None = None) -> int | None:
    """Weights that share a scale; -1 for a whole channel."""
    size = fields.whole(*names, least=-1, most=1 << 20, default=default)
    if size == 0:
        raise fields.refuse(names[0], "-1 or a whole number from 1", size)
    return size


def word(fields: Fields, *names: str, default: str | None = None) -> str | None:
    """A name, in lower case."""
    text = fields.text(*names, default=default)
    return text.lower() if text else None


def ignored(fields: Fields) -> tuple[str, ...]:
    """Modules that are not quantized, under the name that each method has for them."""
    return fields.texts(
        "modules_to_not_convert",
        "ignore",
        "exclude_modules",
        "exclude",
        "ignored_layers",
        "llm_int8_skip_modules",
        "skip_modules",
    )


def block_shape(fields: Fields, *names: str) -> tuple[int, int] | None:
    """Rows and columns that share a scale."""
    match fields.find(*names):
        case None:
            return None
        case _, str(text) if re.fullmatch(
            r"[1-9]\d{0,4}x[1-9]\d{0,4}", text, re.ASCII
        ):  # compressed-tensors' older form
            height, _, width = text.partition("x")
            return int(height), int(width)
        case _, [height, width] if type(height) is int and type(width) is int and 1 <= min(height, width) < 1 << 20:
            return height, width
        case _, value:
            raise fields.refuse(names[0], "two whole numbers", value)


def kv_cache(fields: Fields) -> str | None:
    """fp8, int8 ... from a name (modelopt) or from a scheme with its bits and type (compressed-tensors, modelopt)."""
    match fields.find("kv_cache_quant_algo", "kv_cache_scheme"):
        case None:
            return None
        case _, str():
            return word(fields, "kv_cache_quant_algo", "kv_cache_scheme")
        case name, _:
            scheme = fields.within(name)
            kind = "fp" if word(scheme, "type", default="float") == "float" else "int"
            return f"{kind}{bits(scheme, 'num_bits', default=8)}"
