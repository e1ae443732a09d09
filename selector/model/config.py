"""Config: what a config.json says about a model, wherever it says it."""

import re
from dataclasses import dataclass
from typing import Final

from calibration.config_json import INNER
from selector.model.fields import Fields, Json
from selector.model.native_types import NATIVE, TIED
from selector.model.parts import language_parts
from selector.model.positions import Positions, read_positions
from selector.model.quant.format import QuantFormat
from selector.model.quant.readers import read_quant
from selector.model.shape.defaults import with_defaults
from selector.model.shape.parameters import Parameters, estimate
from selector.model.shape.shape import Shape, read_shape

_VISION: Final = ("vision_config", "visual", "vision_tower", "mm_vision_tower", "vision_encoder", "img_processor")

_DTYPES: Final = frozenset({"float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"})
_DTYPE_BITS: Final = {"float32": 32, "float64": 64, "float8_e4m3fn": 8, "float8_e5m2": 8}

_QUANTIZED_DTYPE: Final = {"awq": "float16", "gptq": "float16", "gguf": "float16"}
"""What is computed in where a quantized checkpoint does not say; bfloat16 with the other methods."""

_SETS_WEIGHTS: Final = frozenset({"heads", "kv_heads", "head_dim", "intermediate_size", "expert_intermediate_size"})
"""Where one of these is unknown, so is how many parameters there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A config.json, read."""

    architecture: str
    architectures: tuple[str, ...]
    auto_architecture: str | None
    inner_architecture: str | None
    model_type: str
    dtype: str
    quant: QuantFormat
    shape: Shape
    positions: Positions
    tied: bool
    vision: bool
    remote_code: bool
    parameters: Parameters

    @property
    def weight_bytes(self) -> int:
        """Of the weights as they would be stored."""
        plain = _DTYPE_BITS.get(self.dtype, 16)
        bits = self.quant.weight_bits or plain
        parts = self.parameters
        ignored = " ".join(self.quant.ignored[:2000])
        attention = plain if re.search(r"attn|attention|mixer", ignored) else bits
        # gpt-oss and DeepSeek-V4 quantize the experts apart from the rest.
        mlp = 8 if self.quant.groups and self.quant.method == "fp8" else bits
        stored = parts.embedding * plain + parts.attention * attention + parts.mlp * mlp + parts.experts * bits
        return round(stored) // 8

    @property
    def unknown(self) -> frozenset[str]:
        """What the config does not tell, under ModelSpec's names."""
        uncounted = self.shape.unknown & _SETS_WEIGHTS
        return self.shape.unknown | ({"parameters", "weight_bytes"} if uncounted else set())


def read(content: Json, where: str, *, beside: tuple[str, Json] | None = None) -> Config:
    """Read a config.json.

    Args:
        content: What is in it.
        where: How messages name it.
        beside: See read_quant.

    Raises:
        ModelError: a field is missing, absurd, or contradicts another; with the value and the mend.
    """
    parts = language_parts(content)
    whole = Fields(where, content)
    for key in INNER:
        whole.table(key)  # refuses what is no object
    model_type = whole.text("model_type", default="")
    inner_type = Fields(where, *parts).text("model_type", default="")
    language = with_defaults(where, parts, inner_type)
    architectures = whole.texts("architectures")
    auto_architecture = _auto_architecture(whole)
    quant = read_quant(language.outermost(), beside=beside)
    shape = read_shape(language, inner_type)
    tied = language.outermost().flag("tie_word_embeddings", default=inner_type in TIED)
    vision = _vision(whole, language)
    return Config(
        architecture=_architecture(whole, language, architectures, auto_architecture),
        architectures=architectures,
        auto_architecture=auto_architecture,
        inner_architecture=_inner_architecture(language) if len(parts) > 1 else None,
        model_type=model_type,
        dtype=_dtype(language, quant),
        quant=quant,
        shape=shape,
        positions=read_positions(language, inner_type),
        tied=tied,
        vision=vision is not None,
        remote_code=_remote_code(whole, model_type),
        parameters=estimate(language, inner_type, shape, tied=tied, vision=vision),
    )


def _class_name(fields: Fields, name: str, value: object) -> str:
    if type(value) is not str or not re.fullmatch(r"[A-Za-z_][\w.-]{0,150}", value, re.ASCII):
        raise fields.refuse(name, "the name of a class", value)
    return value


def _auto_architecture(fields: Fields) -> str | None:
    """`module.Class`, with a repository before it (`owner/name--module.Class`) where the code is elsewhere."""
    reference = fields.table("auto_map").get("AutoModelForCausalLM")
    if reference is None:
        return None
    text = reference if type(reference) is str else ""
    class_name = text.rpartition("--")[2].rpartition(".")[2] or reference
    return _class_name(fields, "auto_map: AutoModelForCausalLM", class_name)


def _architecture(whole: Fields, language: Fields, architectures: tuple[str, ...], auto: str | None) -> str:
    if architectures:
        return _class_name(whole, "architectures", architectures[0])
    class_name = auto or _auto_architecture(language)  # DeepSeek-VL2 says it for its language model alone
    if class_name is None:
        raise whole.missing("architectures", "auto_map: AutoModelForCausalLM")
    return class_name


def _inner_architecture(language: Fields) -> str | None:
    own = language.first().texts("architectures")
    return _class_name(language, "architectures", own[0]) if own else None


def _remote_code(whole: Fields, model_type: str) -> bool:
    """Transformers takes a class of its own before the repository's, where it has one for the model type."""
    named = any(key == "AutoConfig" or key.startswith("AutoModel") for key in whole.table("auto_map"))
    return named and model_type not in NATIVE


def _vision(whole: Fields, language: Fields) -> Fields | None:
    """The fields of the vision part; None where the model does not see."""
    if whole.flag("language_model_only"):
        return None
    for part in language.sources:
        for key in _VISION:
            value = part.get(key)
            if type(value) is dict and value:
                return Fields(f"{whole.where}: {key}", value, mend=whole.mend)
            if type(value) is str and value:  # LLaVA names the tower
                return Fields(whole.where, {}, mend=whole.mend)
    return None


def _dtype(language: Fields, quant: QuantFormat) -> str:
    named = language.text("torch_dtype", "dtype", default="auto").removeprefix("torch.")
    dtype = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}.get(named, named)
    if dtype == "auto":
        return "float32" if quant.method == "none" else _QUANTIZED_DTYPE.get(quant.method, "bfloat16")
    if dtype not in _DTYPES:
        raise language.refuse("torch_dtype", f"one of {', '.join(sorted(_DTYPES))}", dtype)
    return dtype
