"""read_quant: one small reader for each way in which checkpoints declare how they are quantized."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from selector.fields import Fields, Json
from selector.quant import NONE, QuantFormat


def read_quant(config: Json, where: str = "config.json", *, beside: tuple[str, Json] | None = None) -> QuantFormat:
    """The quant format that a model declares.

    Args:
        config: config.json, or the part of it that holds the language model; its `quantization_config`, or the older
            `compression_config`, is read.
        where: How messages name the file.
        beside: Name and content of a file next to config.json that declares the format instead: ModelOpt's
            hf_quant_config.json, llm-awq's quant_config.json, AutoGPTQ's quantize_config.json.

    Raises:
        ModelError: with the value and the mend.
    """
    top = Fields(where, config)
    key = "quantization_config" if top.find("quantization_config") else "compression_config"
    declared = top.within(key)
    if beside is not None:
        file = Fields(beside[0], beside[1])
        nested = file.within("quantization") if file.find("quantization") else file
        if nested.find("quant_algo"):
            return _modelopt(Fields(file.where, *nested.sources, *declared.sources), declared)
        if not top.table(key):
            return _by_method(nested, top)
    return _by_method(declared, top) if top.table(key) else NONE


def _by_method(fields: Fields, top: Fields) -> QuantFormat:
    method = fields.text("quant_method", default=None) or _guess(fields)
    if method is None:
        raise fields.missing("quant_method")
    method = {"compressed_tensors": "compressed-tensors"}.get(method.lower(), method.lower())
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,40}", method):
        raise fields.refuse("quant_method", "the name of a method", method)
    if method.startswith("modelopt") or fields.find("quant_algo"):
        return _modelopt(fields, fields)
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


def _bits(fields: Fields, *names: str, default: Any = None) -> int | None:
    bits: int | None = fields.whole(*names, most=64, default=default)
    return bits


def _group_size(fields: Fields, *names: str, default: int | None = None) -> int | None:
    size: int | None = fields.whole(*names, least=-1, most=1 << 20, default=default)
    if size == 0:
        raise fields.refuse(names[0], "-1 or a whole number from 1", size)
    return size


def _text(fields: Fields, *names: str, default: str | None = None) -> str | None:
    text: str | None = fields.text(*names, default=default)
    return text.lower() if text else None


def _ignored(fields: Fields) -> tuple[str, ...]:
    return fields.texts(
        "modules_to_not_convert",
        "ignore",
        "exclude_modules",
        "exclude",
        "ignored_layers",
        "llm_int8_skip_modules",
        "skip_modules",
    )


def _block_shape(fields: Fields, *names: str) -> tuple[int, int] | None:
    match fields.rows(*names):
        case None:
            return None
        case [height, width] if type(height) is int and type(width) is int and 1 <= min(height, width) < 1 << 20:
            return height, width
        case other:
            raise fields.refuse(names[0], "two whole numbers", other)


def _awq(fields: Fields, method: str) -> QuantFormat:
    zero_point = fields.flag("zero_point", default=True)
    return QuantFormat(
        method=method,
        bits=_bits(fields, "bits", "w_bit", default=4),
        group_size=_group_size(fields, "group_size", "q_group_size", default=128),
        symmetric=not zero_point,
        zero_point=zero_point,
        version=_text(fields, "version", default="gemm"),
        kind="int",
        ignored=_ignored(fields),
    )


def _gptq(fields: Fields, method: str) -> QuantFormat:
    symmetric = fields.flag("sym", default=True)
    marlin = fields.flag("is_marlin_format")
    return QuantFormat(
        method=method,
        bits=fields.whole("bits", most=64),
        group_size=_group_size(fields, "group_size", default=128),
        symmetric=symmetric,
        desc_act=fields.flag("desc_act"),
        zero_point=not symmetric,
        version="marlin" if marlin else _text(fields, "checkpoint_format", default="gptq"),
        kind="int",
        ignored=_ignored(fields),
    )


def _fp8(fields: Fields, expert_dtype: str | None) -> QuantFormat:
    block_shape = _block_shape(fields, "weight_block_size")
    quant = QuantFormat(
        method="fp8",
        bits=8,
        block_shape=block_shape,
        activation_scheme=_text(fields, "activation_scheme", default="dynamic"),
        activation_bits=8,
        format=_text(fields, "fmt", "weight_dtype", default="e4m3"),
        strategy="block" if block_shape else "tensor",
        kind="float",
        ignored=_ignored(fields),
    )
    if expert_dtype != "fp4":
        return quant
    # DeepSeek-V4: fp8 blocks, and experts in fp4 with one exponent for 32 weights.
    experts = QuantFormat(method="fp8", bits=4, group_size=32, format="mxfp4", strategy="group", kind="float")
    return replace(quant, groups=(replace(quant, ignored=()), experts))


def _mxfp4(fields: Fields, method: str) -> QuantFormat:
    return QuantFormat(
        method=method, bits=4, group_size=32, format=method, strategy="group", kind="float", ignored=_ignored(fields)
    )


def _bitsandbytes(fields: Fields, method: str) -> QuantFormat:
    four = fields.flag("load_in_4bit", "_load_in_4bit")
    return QuantFormat(
        method=method,
        bits=4 if four else 8,
        format=_text(fields, "bnb_4bit_quant_type", default="fp4") if four else "int8",
        kind="float" if four else "int",
        ignored=_ignored(fields),
    )


def _hqq(fields: Fields, method: str) -> QuantFormat:
    inner = fields.within("quant_config") if fields.find("quant_config") else fields
    weights = inner.within("weight_quant_params") if inner.find("weight_quant_params") else inner
    return QuantFormat(
        method=method,
        bits=_bits(weights, "nbits", "bits", default=4),
        group_size=_group_size(weights, "group_size"),
        zero_point=True,
        kind="int",
        ignored=_ignored(fields),
    )


def _gguf(fields: Fields, method: str) -> QuantFormat:
    return QuantFormat(method=method, bits=_bits(fields, "bits"), format=_text(fields, "format"), kind="int")


def _smooth_quant(fields: Fields, method: str) -> QuantFormat:
    # What `lmdeploy lite smooth_quant` writes: quant_dtype is int8, fp8 or the torch name of an fp8 type.
    floating = "fp8" in (dtype := _text(fields, "quant_dtype", default="int8") or "") or "float8" in dtype
    return QuantFormat(
        method=method,
        bits=8,
        symmetric=True,
        activation_scheme="dynamic",
        activation_bits=8,
        format="fp8" if floating else "int8",
        strategy="channel",
        kind="float" if floating else "int",
        ignored=_ignored(fields),
    )


def _compressed_tensors(fields: Fields, method: str) -> QuantFormat:
    packing = _text(fields, "format", default="dense")
    groups: dict[QuantFormat, None] = {}
    every = fields.within("config_groups")
    for name in every.table_names():
        group = every.within(name)
        if group.find("weights"):
            groups[_config_group(group, method, _text(group, "format", default=packing))] = None
    kv_cache = _kv_cache(fields)
    match list(groups):
        case []:
            return QuantFormat(method=method, format=packing, kv_cache=kv_cache, ignored=_ignored(fields))
        case [one]:
            return replace(one, kv_cache=kv_cache, ignored=_ignored(fields))
        case several:
            return QuantFormat(
                method=method, format=packing, groups=tuple(several), kv_cache=kv_cache, ignored=_ignored(fields)
            )


def _config_group(group: Fields, method: str, packing: str | None) -> QuantFormat:
    weights, activations = group.within("weights"), group.within("input_activations")
    strategy = _text(weights, "strategy")
    size = _group_size(weights, "group_size", default=-1 if strategy == "channel" else None)
    kind = _text(weights, "type", default="int")
    order = weights.find("actorder")
    quantized = bool(group.table("input_activations"))
    symmetric = weights.flag("symmetric", default=True)
    return QuantFormat(
        method=method,
        bits=_bits(weights, "num_bits", default=8),
        group_size=size,
        symmetric=symmetric,
        # `weight` and `static` reorder before packing; only `group` leaves a g_idx to follow at run time.
        desc_act=order is not None and order[1] in (True, "group"),
        zero_point=not symmetric,
        block_shape=_block_shape(weights, "block_structure"),
        activation_scheme=_scheme(activations) if quantized else None,
        activation_bits=_bits(activations, "num_bits", default=8) if quantized else None,
        format=packing,
        strategy=strategy or ("group" if size else "tensor"),
        kind="float" if kind == "float" else "int",
    )


def _scheme(activations: Fields) -> str:
    """`dynamic` is true, false, or `local` (scales per group computed, one for the tensor stored)."""
    found = activations.find("dynamic")
    return "static" if found is None or found[1] is False else "dynamic"


def _kv_cache(fields: Fields) -> str | None:
    """fp8, int8 ... from a name (modelopt) or from a scheme with its bits and type (compressed-tensors, modelopt)."""
    match fields.find("kv_cache_quant_algo", "kv_cache_scheme"):
        case None:
            return None
        case _, str():
            return _text(fields, "kv_cache_quant_algo", "kv_cache_scheme")
        case name, _:
            scheme = fields.within(name)
            kind = "fp" if _text(scheme, "type", default="float") == "float" else "int"
            return f"{kind}{_bits(scheme, 'num_bits', default=8)}"


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


def _modelopt(fields: Fields, declared: Fields) -> QuantFormat:
    """ModelOpt's `quant_algo`, in hf_quant_config.json or in config.json; `declared` is what config.json says."""
    algorithm = _text(fields, "quant_algo")
    if algorithm is None:
        raise fields.missing("quant_algo")
    kv_cache, ignored = _kv_cache(fields), _ignored(fields)
    if algorithm != "mixed_precision":
        return replace(_algorithm(fields, algorithm), kv_cache=kv_cache, ignored=ignored)
    groups: dict[str, QuantFormat] = {}
    for name, layer in fields.table("quantized_layers").items():
        # Thousands of layers repeat two or three declarations: each is read once.
        key = repr(layer)
        if key not in groups:
            one = Fields(f"{fields.where}: quantized_layers: {name[:40]}", layer if type(layer) is dict else {})
            groups[key] = _algorithm(one, one.text("quant_algo").lower())
    if block_shape := _block_shape(declared, "weight_block_size"):
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
    size = _group_size(fields, "group_size", default=known.group_size) if known.strategy == "group" else None
    return replace(known, method="modelopt", format=algorithm, group_size=size)


def _quark(fields: Fields, method: str) -> QuantFormat:
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
    return replace(base, kv_cache=kv_cache, ignored=_ignored(fields))


def _quark_layer(layer: Fields, method: str) -> QuantFormat:
    if not layer.find("weight"):
        return QuantFormat(method=method)
    weight = layer.within("weight")
    bits, kind = _quark_type(weight)
    scheme = (_text(weight, "qscheme") or "per_tensor").removeprefix("per_")
    activations = layer.within("input_tensors") if layer.find("input_tensors") else None
    symmetric = kind == "float" or weight.flag("symmetric", default=True)
    return QuantFormat(
        method=method,
        bits=bits,
        group_size=_group_size(weight, "group_size", default=-1 if scheme == "channel" else None),
        symmetric=symmetric,
        zero_point=not symmetric,
        activation_scheme=None if activations is None else "dynamic" if activations.flag("is_dynamic") else "static",
        activation_bits=None if activations is None else _quark_type(activations)[0],
        format=_text(weight, "dtype"),
        strategy=scheme,
        kind=kind,
    )


def _quark_type(tensor: Fields) -> tuple[int, str]:
    """Bits and kind of `fp8_e4m3`, `int4`, `uint4`, `fp4`, `mx` (then of its element)."""
    name = _text(tensor, "mx_element_dtype", "dtype", default="") or ""
    found = re.match(r"(u?int|fp|mxfp)(\d{1,2})", name)
    if not found:
        raise tensor.refuse("dtype", "a type with its bits, as fp8_e4m3 or int4", name)
    return int(found[2]), "int" if found[1].endswith("int") else "float"


def _other(fields: Fields, method: str) -> QuantFormat:
    """A method with no reader of its own: what its usual keys say."""
    found = fields.find("bits", "nbits", "w_bits", "weight_bits")
    fraction = found is not None and type(found[1]) is float
    bits = fields.number(found[0]) if found and fraction else None
    return QuantFormat(
        method=method,
        bits=min(64, max(1, round(bits))) if bits else _bits(fields, "bits", "nbits", "w_bits", "weight_bits"),
        group_size=_group_size(fields, "group_size"),
        symmetric=fields.flag("sym", default=None),
        format=f"{bits:g}bpw" if bits else None,
        ignored=_ignored(fields),
    )


_READERS: Final[Mapping[str, Callable[[Fields, str], QuantFormat]]] = {
    "awq": _awq,
    "gptq": _gptq,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "hqq": _hqq,
    "gguf": _gguf,
    "smooth_quant": _smooth_quant,
    "compressed-tensors": _compressed_tensors,
    "quark": _quark,
}
