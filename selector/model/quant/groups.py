"""Readers of the methods that quantize by groups of layers: compressed-tensors, ModelOpt and Quark."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from selector.model.fields import Fields, plain
from selector.model.quant import fields as parse
from selector.model.quant.format import QuantFormat


def compressed_tensors(fields: Fields, method: str) -> QuantFormat:
    """What `config_groups` says of the weights and activations of each group, and `format` of their packing."""
    packing = parse.word(fields, "format", default="dense")
    groups: dict[QuantFormat, None] = {}
    every = fields.within("config_groups")
    for name in every.table_names():
        group = every.within(name)
        if group.find("weights"):
            groups[_config_group(group, method, parse.word(group, "format", default=packing))] = None
    kv_cache = parse.kv_cache(fields)
    match list(groups):
        case []:
            return QuantFormat(method=method, format=packing, kv_cache=kv_cache, ignored=parse.ignored(fields))
        case [single]:
            return replace(single, kv_cache=kv_cache, ignored=parse.ignored(fields))
        case several:
            return QuantFormat(
                method=method, format=packing, groups=tuple(several), kv_cache=kv_cache, ignored=parse.ignored(fields)
            )


def _config_group(group: Fields, method: str, packing: str | None) -> QuantFormat:
    weights, activations = group.within("weights"), group.within("input_activations")
    strategy = parse.word(weights, "strategy")
    size = parse.group_size(weights, "group_size", default=-1 if strategy == "channel" else None)
    kind = parse.word(weights, "type", default="int")
    order = weights.find("actorder")
    quantized = bool(group.table("input_activations"))
    symmetric = weights.flag("symmetric", default=True)
    return QuantFormat(
        method=method,
        bits=parse.bits(weights, "num_bits", default=8),
        group_size=size,
        symmetric=symmetric,
        # `weight` and `static` reorder before packing; only `group` leaves a g_idx to follow at run time.
        desc_act=order is not None and order[1] in (True, "group"),
        zero_point=not symmetric,
        block_shape=parse.block_shape(weights, "block_structure"),
        activation_scheme=_scheme(activations) if quantized else None,
        activation_bits=parse.bits(activations, "num_bits", default=8) if quantized else None,
        format=packing,
        strategy=strategy or ("group" if size else "tensor"),
        kind="float" if kind == "float" else "int",
    )


def _scheme(activations: Fields) -> str:
    """`dynamic` is true, false, or `local` (scales per group computed, one for the tensor stored)."""
    match activations.find("dynamic"):
        case None | (_, False):
            return "static"
        case _:
            return "dynamic"


_ALGORITHMS: Final[Mapping[str, QuantFormat]] = {
    # NVIDIA TensorRT Model Optimizer's quant_algo names (modelopt/torch/export/model_config.py)
    "fp8": QuantFormat(bits=8, activation_bits=8, activation_scheme="static", strategy="tensor", kind="float"),
    "fp8_pb_wo": QuantFormat(bits=8, block_shape=(128, 128), strategy="block", kind="float"),
    "fp8_pb_real": QuantFormat(bits=8, block_shape=(128, 128), activation_bits=8, strategy="block", kind="float"),
    "fp8_pc_pt": QuantFormat(bits=8, activation_bits=8, activation_scheme="dynamic", strategy="channel", kind="float"),
    "nvfp4": QuantFormat(bits=4, group_size=16, activation_bits=4, strategy="group", kind="float"),
    "nvfp4_awq": QuantFormat(bits=4, group_size=16, activation_bits=4, strategy="group", kind="float"),
    "w4a16_nvfp4": QuantFormat(bits=4, group_size=16, strategy="group", kind="float"),
    "w4a8_nvfp4_fp8": QuantFormat(bits=4, group_size=16, activation_bits=8, strategy="group", kind="float"),
    "mxfp4": QuantFormat(bits=4, group_size=32, activation_bits=4, strategy="group", kind="float"),
    "w4a8_mxfp4_fp8": QuantFormat(bits=4, group_size=32, activation_bits=8, strategy="group", kind="float"),
    "mxfp8": QuantFormat(bits=8, group_size=32, activation_bits=8, strategy="group", kind="float"),
    "int8_sq": QuantFormat(bits=8, activation_bits=8, strategy="channel", kind="int"),
    "w8a16": QuantFormat(bits=8, strategy="channel", kind="int"),
    "w4a16": QuantFormat(bits=4, group_size=128, strategy="group", kind="int"),
    "w4a16_awq": QuantFormat(bits=4, group_size=128, strategy="group", kind="int"),
    "w4a8_awq": QuantFormat(bits=4, group_size=128, activation_bits=8, strategy="group", kind="int"),
}


def modelopt(fields: Fields, declared: Fields) -> QuantFormat:
    """ModelOpt's `quant_algo`, in hf_quant_config.json or in config.json; `declared` is what config.json says."""
    algorithm = parse.word(fields, "quant_algo")
    if algorithm is None:
        raise fields.missing("quant_algo")
    kv_cache, ignored = parse.kv_cache(fields), parse.ignored(fields)
    if algorithm != "mixed_precision":
        return replace(_algorithm(fields, algorithm), kv_cache=kv_cache, ignored=ignored)
    groups: dict[object, QuantFormat] = {}
    for name, layer in fields.table("quantized_layers").items():
        declaration = Fields(f"{fields.where}: quantized_layers: {plain(name)}", layer if type(layer) is dict else {})
        key = declaration.text("quant_algo").lower(), parse.group_size(declaration, "group_size")
        if key not in groups:  # thousands of layers repeat two or three declarations
            groups[key] = _algorithm(declaration, key[0])
    if block_shape := parse.block_shape(declared, "weight_block_size"):
        # DeepSeek-V4 with NVFP4 experts: the rest stays as it was published, fp8 in blocks.
        groups["rest"] = QuantFormat(
            method="modelopt",
            bits=8,
            block_shape=block_shape,
            activation_bits=8,
            format="fp8",
            strategy="block",
            kind="float",
        )
    return QuantFormat(
        method="modelopt",
        format=algorithm,
        groups=tuple(dict.fromkeys(groups.values())),
        kv_cache=kv_cache,
        ignored=ignored,
    )


def _algorithm(fields: Fields, algorithm: str) -> QuantFormat:
    known = _ALGORITHMS.get(algorithm)
    if known is None:
        digits = re.search(r"\d+", algorithm)
        known = QuantFormat(bits=int(digits[0]) if digits and 1 <= int(digits[0][:3]) <= 64 else None)
    size = parse.group_size(fields, "group_size", default=known.group_size) if known.strategy == "group" else None
    return replace(known, method="modelopt", format=algorithm, group_size=size)


def quark(fields: Fields, method: str) -> QuantFormat:
    """What AMD Quark says of all layers (global_quant_config) and of some (layer_quant_config)."""
    every = fields.within("global_quant_config")
    layers = fields.within("layer_quant_config")
    default = _quark_layer(every, method)
    groups: dict[QuantFormat, None] = {default: None} if default.bits else {}
    for name in layers.table_names():
        layer = _quark_layer(layers.within(name), method)
        if layer.bits:
            groups[layer] = None
    kv_cache = "fp8" if fields.within("export").rows("kv_cache_group") else None
    base = default if len(groups) < 2 else QuantFormat(method=method, groups=tuple(groups))
    return replace(base, kv_cache=kv_cache, ignored=parse.ignored(fields))


def _quark_layer(layer: Fields, method: str) -> QuantFormat:
    if not layer.find("weight"):
        return QuantFormat(method=method)
    weight = layer.within("weight")
    bits, kind = _quark_type(weight)
    scheme = (parse.word(weight, "qscheme") or "per_tensor").removeprefix("per_")
    activations = layer.within("input_tensors") if layer.find("input_tensors") else None
    symmetric = kind == "float" or weight.flag("symmetric", default=True)
    return QuantFormat(
        method=method,
        bits=bits,
        group_size=parse.group_size(weight, "group_size", default=-1 if scheme == "channel" else None),
        symmetric=symmetric,
        zero_point=not symmetric,
        activation_scheme=None if activations is None else "dynamic" if activations.flag("is_dynamic") else "static",
        activation_bits=None if activations is None else _quark_type(activations)[0],
        format=parse.word(weight, "dtype"),
        strategy=scheme,
        kind=kind,
    )


def _quark_type(tensor: Fields) -> tuple[int, str]:
    """Bits and kind of `fp8_e4m3`, `int4`, `uint4`, `fp4`, `mx` (then of its element)."""
    name = parse.word(tensor, "mx_element_dtype", "dtype", default="") or ""
    parts = re.match(r"(u?int|fp|mxfp)(\d{1,2})", name)
    if not parts:
        raise tensor.refuse("dtype", "a type with its bits, as fp8_e4m3 or int4", name)
    return int(parts[2]), "int" if parts[1].endswith("int") else "float"
