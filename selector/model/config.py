"""Config: what a config.json says about a model, wherever it says it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from selector.model.fields import Fields, Json
from selector.model.native_types import NATIVE
from selector.model.parameters import Parameters, estimate
from selector.model.quant.format import QuantFormat
from selector.model.quant.readers import read_quant
from selector.model.shape import Shape, read_shape

_INNER: Final = ("text_config", "llm_config", "language_config", "thinker_config", "language_model_config")
"""Where models that see or hear keep their language model; searched again inside what is found."""

_VISION: Final = ("vision_config", "visual", "vision_tower", "mm_vision_tower", "vision_encoder", "img_processor")

_UNROTATED: Final = frozenset({
    "biogpt", "bloom", "gpt2", "gpt_bigcode", "gpt_neo", "jamba", "mamba", "mamba2", "falcon_mamba", "mpt", "opt",
    "xglm",
})  # fmt: skip
"""Model types without rotary positions: learned ones, ALiBi, or none."""

_TIED: Final = frozenset({
    "biogpt", "bloom", "cohere", "cohere2", "ernie4_5", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n",
    "gemma3n_text", "gemma4", "gemma4_text", "gpt2", "gpt_bigcode", "gpt_neo", "lfm2", "mamba", "mpt", "opt", "smollm3",
    "starcoder2", "xglm",
})  # fmt: skip
"""Model types whose class ties the embeddings where the config does not say (transformers 5.23)."""

_DTYPES: Final = frozenset({"float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"})

_QUANTIZED_DTYPE: Final = {"awq": "float16", "gptq": "float16", "gguf": "float16"}
"""What is computed in where a quantized checkpoint does not say; bfloat16 with the other methods."""


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
    rope_type: str
    rope_theta: float | None
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


_DTYPE_BITS: Final = {"float32": 32, "float64": 64, "float8_e4m3fn": 8, "float8_e5m2": 8}


def declares_quant(content: Json) -> bool:
    """The config itself says how the weights are quantized."""
    return any(source.get(key) for source in _nested(content) for key in ("quantization_config", "compression_config"))


def read(content: Json, where: str, *, beside: tuple[str, Json] | None = None) -> Config:
    """Read a config.json.

    Args:
        content: What is in it.
        where: How messages name it.
        beside: See read_quant.

    Raises:
        ModelError: a field is missing, absurd, or contradicts another; with the value and the mend.
    """
    sources = _nested(content)
    top, inner = Fields(where, content), Fields(where, *sources)
    for key in _INNER:
        top.table(key)  # refuses what is no object
    model_type = top.text("model_type", default="")
    inner_type = inner.text("model_type", default="")
    architectures = top.texts("architectures")
    auto = _auto_architecture(top)
    shape = read_shape(inner, inner_type, inner=len(sources) > 1)
    vision = _vision(top, inner)
    tied = _outermost(top, inner).flag("tie_word_embeddings", default={model_type, inner_type} & _TIED != set())
    quant = read_quant(_declaring(sources), where, beside=beside)
    return Config(
        architecture=_architecture(top, inner, architectures, auto),
        architectures=architectures,
        auto_architecture=auto,
        inner_architecture=_inner_architecture(inner) if len(sources) > 1 else None,
        model_type=model_type,
        dtype=_dtype(inner, quant),
        quant=quant,
        shape=shape,
        rope_type=_rope_type(inner, inner_type),
        rope_theta=_rope_theta(inner, inner_type),
        tied=tied,
        vision=vision is not None,
        remote_code=_remote_code(top, model_type),
        parameters=estimate(inner, inner_type, shape, tied=tied, vision=vision),
    )


def _nested(content: Json) -> list[Json]:
    """The parts that hold the language model, innermost first, the whole last."""
    sources = [content]
    while len(sources) < 5:
        for key in _INNER:
            if type(found := sources[0].get(key)) is dict and found:
                sources.insert(0, found)
                break
        else:
            break
    return sources


def _outermost(top: Fields, inner: Fields) -> Fields:
    return Fields(top.where, *reversed(inner.sources), mend=top.mend)


def _declaring(sources: list[Json]) -> Json:
    """The outermost part that declares a quant format."""
    for source in reversed(sources):
        if source.get("quantization_config") is not None or source.get("compression_config") is not None:
            return source
    return sources[-1]


def _class_name(fields: Fields, name: str, value: object) -> str:
    if type(value) is not str or not re.fullmatch(r"[A-Za-z_][\w.-]{0,150}", value, re.ASCII):
        raise fields.refuse(name, "the name of a class", value)
    return value


def _auto_architecture(fields: Fields) -> str | None:
    """`module.Class`, with a repository before it (`owner/name--module.Class`) where the code is elsewhere."""
    found = fields.table("auto_map").get("AutoModelForCausalLM")
    if found is None:
        return None
    text = found if type(found) is str else ""
    return _class_name(fields, "auto_map: AutoModelForCausalLM", text.rpartition("--")[2].rpartition(".")[2] or found)


def _architecture(top: Fields, inner: Fields, architectures: tuple[str, ...], auto: str | None) -> str:
    if architectures:
        return _class_name(top, "architectures", architectures[0])
    found = auto or _auto_architecture(inner)  # DeepSeek-VL2 says it for its language model alone
    if found is None:
        raise top.missing("architectures", "auto_map: AutoModelForCausalLM")
    return found


def _inner_architecture(inner: Fields) -> str | None:
    own = Fields(inner.where, inner.sources[0], mend=inner.mend).texts("architectures")
    return _class_name(inner, "architectures", own[0]) if own else None


def _remote_code(top: Fields, model_type: str) -> bool:
    """Transformers takes a class of its own before the repository's, where it has one for the model type."""
    named = any(key == "AutoConfig" or key.startswith("AutoModel") for key in top.table("auto_map"))
    return named and model_type not in NATIVE


def _vision(top: Fields, inner: Fields) -> Fields | None:
    """The fields of the vision part; None where the model does not see."""
    if top.flag("language_model_only"):
        return None
    for source in inner.sources:
        for key in _VISION:
            found = source.get(key)
            if type(found) is dict and found:
                return Fields(f"{top.where}: {key}", found, mend=top.mend)
            if type(found) is str and found:  # LLaVA names the tower
                return Fields(top.where, {}, mend=top.mend)
    return None


def _dtype(fields: Fields, quant: QuantFormat) -> str:
    named: str = fields.text("torch_dtype", "dtype", default="auto")
    named = named.removeprefix("torch.")
    named = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}.get(named, named)
    if named == "auto":
        return "float32" if quant.method == "none" else _QUANTIZED_DTYPE.get(quant.method, "bfloat16")
    if named not in _DTYPES:
        raise fields.refuse("torch_dtype", f"one of {', '.join(sorted(_DTYPES))}", named)
    return named


def _rope(fields: Fields) -> Mapping[str, Any]:
    """The parameters of the positions.

    They are in transformers 5's rope_parameters (those of full attention, where layers differ) or in rope_scaling.
    """
    found = fields.table("rope_parameters", "rope_scaling")
    layers = [value for value in found.values() if type(value) is dict]
    if layers and len(layers) == len(found):
        for key in ("full_attention", "main"):
            if key in found:
                return dict(found[key])
        return dict(layers[0])
    return found


def _rope_type(fields: Fields, model_type: str) -> str:
    if model_type in _UNROTATED or fields.flag("alibi") or fields.flag("mla_use_nope"):
        return "none"
    rope = Fields(f"{fields.where}: rope", _rope(fields), mend=fields.mend)
    named: str = rope.text("rope_type", "type", default="default", most=40)
    if named == "default" and rope.find("mrope_section"):
        return "mrope"
    return {"su": "longrope"}.get(named, named)


def _rope_theta(fields: Fields, model_type: str) -> float | None:
    if model_type in _UNROTATED:
        return None
    around = Fields(fields.where, _rope(fields), *fields.sources, fields.table("attn_config"), mend=fields.mend)  # DBRX
    theta: float | None = around.number("rope_theta", "rotary_emb_base", default=None)
    return theta
