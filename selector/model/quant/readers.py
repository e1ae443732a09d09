"""read_quant: one small reader for each way in which checkpoints declare how they are quantized."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from selector.model.fields import Fields, Json
from selector.model.quant import fields as parse
from selector.model.quant.format import NONE, QuantFormat
from selector.model.quant.groups import compressed_tensors, modelopt, quark


def read_quant(config: Fields, *, beside: tuple[str, Json] | None = None) -> QuantFormat:
    """The quant format that a model declares.

    Args:
        config: config.json and the parts of it that hold the language model; the `quantization_config` of the first,
            or the older `compression_config`, is read.
        beside: Name and content of a file next to config.json that declares the format instead: ModelOpt's
            hf_quant_config.json, llm-awq's quant_config.json, AutoGPTQ's quantize_config.json.

    Raises:
        ModelError: with the value and the mend.
    """
    key, _ = config.find("quantization_config", "compression_config") or ("quantization_config", None)
    declared = config.within(key)
    if beside is not None:
        file = Fields(beside[0], beside[1])
        nested = file.within("quantization") if file.find("quantization") else file
        if nested.find("quant_algo"):
            return modelopt(Fields(file.where, *nested.sources, *declared.sources), declared)
        if not config.table(key):
            return _by_method(nested, config)
    return _by_method(declared, config) if config.table(key) else NONE


def _by_method(fields: Fields, top: Fields) -> QuantFormat:
    method = fields.text("quant_method", default=None) or _guess(fields)
    if method is None:
        raise fields.missing("quant_method")
    method = {"compressed_tensors": "compressed-tensors"}.get(method.lower(), method.lower())
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,40}", method):
        raise fields.refuse("quant_method", "the name of a method", method)
    if method.startswith("modelopt") or fields.find("quant_algo"):
        return modelopt(fields, fields)
    if method == "fp8":
        return _fp8(fields, top.text("expert_dtype", default=None) or fields.text("expert_dtype", default=None))
    return _READERS.get(method, _other)(fields, method)


def _guess(fields: Fields) -> str | None:
    """The method of a declaration that does not name it, from the keys that only this method writes."""
    for method, keys in (
        ("modelopt", ("quant_algo",)),
        ("bitsandbytes", ("load_in_4bit", "load_in_8bit")),
        ("compressed-tensors", ("config_groups",)),
        ("awq", ("w_bit", "q_group_size", "zero_point")),
        ("gptq", ("desc_act", "checkpoint_format", "true_sequential")),
    ):
        if fields.find(*keys):
            return method
    return None


def _awq(fields: Fields, method: str) -> QuantFormat:
    zero_point = fields.flag("zero_point", default=True)
    return QuantFormat(
        method=method,
        bits=parse.bits(fields, "bits", "w_bit", default=4),
        group_size=parse.group_size(fields, "group_size", "q_group_size", default=128),
        symmetric=not zero_point,
        zero_point=zero_point,
        version=parse.word(fields, "version", default="gemm"),
        kind="int",
        ignored=parse.ignored(fields),
    )


def _gptq(fields: Fields, method: str) -> QuantFormat:
    symmetric = fields.flag("sym", default=True)
    marlin = fields.flag("is_marlin_format")
    return QuantFormat(
        method=method,
        bits=fields.whole("bits", most=64),
        group_size=parse.group_size(fields, "group_size", default=128),
        symmetric=symmetric,
        desc_act=fields.flag("desc_act"),
        zero_point=not symmetric,
        version="marlin" if marlin else parse.word(fields, "checkpoint_format", default="gptq"),
        kind="int",
        ignored=parse.ignored(fields),
    )


def _fp8(fields: Fields, expert_dtype: str | None) -> QuantFormat:
    block_shape = parse.block_shape(fields, "weight_block_size")
    quant = QuantFormat(
        method="fp8",
        bits=8,
        block_shape=block_shape,
        activation_scheme=parse.word(fields, "activation_scheme", default="dynamic"),
        activation_bits=8,
        format=parse.word(fields, "fmt", "weight_dtype", default="e4m3"),
        strategy="block" if block_shape else "tensor",
        kind="float",
        ignored=parse.ignored(fields),
    )
    if expert_dtype != "fp4":
        return quant
    # DeepSeek-V4: fp8 blocks, and experts in fp4 with one exponent for 32 weights.
    experts = QuantFormat(method="fp8", bits=4, group_size=32, format="mxfp4", strategy="group", kind="float")
    return replace(quant, groups=(replace(quant, ignored=()), experts))


def _mxfp4(fields: Fields, method: str) -> QuantFormat:
    return QuantFormat(
        method=method,
        bits=4,
        group_size=32,
        format=method,
        strategy="group",
        kind="float",
        ignored=parse.ignored(fields),
    )


def _bitsandbytes(fields: Fields, method: str) -> QuantFormat:
    four = fields.flag("load_in_4bit", "_load_in_4bit")
    return QuantFormat(
        method=method,
        bits=4 if four else 8,
        format=parse.word(fields, "bnb_4bit_quant_type", default="fp4") if four else "int8",
        kind="float" if four else "int",
        ignored=parse.ignored(fields),
    )


def _hqq(fields: Fields, method: str) -> QuantFormat:
    inner = fields.within("quant_config") if fields.find("quant_config") else fields
    weights = inner.within("weight_quant_params") if inner.find("weight_quant_params") else inner
    return QuantFormat(
        method=method,
        bits=parse.bits(weights, "nbits", "bits", default=4),
        group_size=parse.group_size(weights, "group_size"),
        zero_point=True,
        kind="int",
        ignored=parse.ignored(fields),
    )


def _gguf(fields: Fields, method: str) -> QuantFormat:
    return QuantFormat(method=method, bits=parse.bits(fields, "bits"), format=parse.word(fields, "format"), kind="int")


def _smooth_quant(fields: Fields, method: str) -> QuantFormat:
    # What `lmdeploy lite smooth_quant` writes: quant_dtype is int8, fp8 or the torch name of an fp8 type.
    floating = "fp8" in (dtype := parse.word(fields, "quant_dtype", default="int8") or "") or "float8" in dtype
    return QuantFormat(
        method=method,
        bits=8,
        symmetric=True,
        activation_scheme="dynamic",
        activation_bits=8,
        format="fp8" if floating else "int8",
        strategy="channel",
        kind="float" if floating else "int",
        ignored=parse.ignored(fields),
    )


def _other(fields: Fields, method: str) -> QuantFormat:
    """A method with no reader of its own: what its usual keys say."""
    names = ("bits", "nbits", "w_bits", "weight_bits")
    name, value = fields.find(*names) or ("", None)
    fraction = fields.number(name) if type(value) is float else None
    return QuantFormat(
        method=method,
        bits=min(64, max(1, round(fraction))) if fraction else parse.bits(fields, *names),
        group_size=parse.group_size(fields, "group_size"),
        symmetric=fields.flag("sym", default=None),
        format=f"{fraction:g}bpw" if fraction else None,
        ignored=parse.ignored(fields),
    )


_READERS: Final[Mapping[str, Callable[[Fields, str], QuantFormat]]] = {
    "awq": _awq,
    "gptq": _gptq,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "hqq": _hqq,
    "gguf": _gguf,
    "smooth_quant": _smooth_quant,
    "compressed-tensors": compressed_tensors,
    "quark": quark,
}
