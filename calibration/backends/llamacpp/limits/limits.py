"""All limits of a conversion; those of sizes, activations, biases and other fields that llama.cpp takes for given."""

import math
from collections.abc import Iterator

from calibration.backend import Model
from calibration.backends.llamacpp.limits import given
from calibration.backends.llamacpp.limits.experts import experts
from calibration.backends.llamacpp.limits.layers import layers
from calibration.backends.llamacpp.limits.rotation import rotation
from calibration.backends.llamacpp.table import OTHER_NAMES
from calibration.config_json import ConfigJson


def limits(model: Model, file_type: str) -> list[str]:
    """`needs X; found Y`, once for each limit that a conversion of `model` to a file of this type is beyond."""
    config = ConfigJson.read(model.folder)
    name = OTHER_NAMES.get(model.architecture, model.architecture)
    return [
        *_less_precise(model, file_type),
        *_head(name, model),
        *_activation(name, config),
        *_widths(name, model, config),
        *_vocabulary(name, config),
        *rotation(name, model, config),
        *_caps(name, config),
        *_declared(config),
        *_flags(name, config),
        *_numbers(name, config),
        *experts(name, config),
        *_indexer(name, config),
        *layers(name, model, config),
        *_attention_scale(name, model, config),
        *_query_norm(name, model, config),
        *_query_rank(name, model, config),
    ]


def _less_precise(model: Model, file_type: str) -> Iterator[str]:
    if file_type == "bf16" and model.dtype != "bfloat16":
        yield f"needs a bfloat16 model, or loses precision; found {model.dtype}"
    # float16 has more digits than bfloat16; what it lacks is range, which weights do not use.
    if file_type == "f16" and model.dtype not in {"float16", "bfloat16"}:
        yield f"needs a 16-bit model, or loses precision; found {model.dtype}"


def _head(name: str, model: Model) -> Iterator[str]:
    if name in given.OWN_HEAD and model.tie_word_embeddings:
        yield f"needs a head of its own, which llama.cpp loads for {name}; found tied embeddings"
    if name in given.TIED_HEAD and not model.tie_word_embeddings:
        yield f"needs tied embeddings, which llama.cpp takes for {name}; found a head of its own"


def _activation(name: str, config: ConfigJson) -> Iterator[str]:
    if name not in given.ACTIVATIONS:
        return
    field, computed = given.ACTIVATIONS[name]
    activation = config.text(field, None)
    if activation is not None and activation not in computed:
        yield f"needs {field} {min(computed)}, which llama.cpp computes for {name}; found {activation}"


def _widths(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    field = given.FOUR_TIMES_AS_WIDE.get(name)
    width = config.whole(field, None) if field else None
    if width not in {None, 4 * model.hidden_size}:
        yield f"needs {field} {4 * model.hidden_size}, four times hidden_size, for {name}; found {width}"
    heads, width = model.heads, model.heads * model.head_dim
    if name in given.HEADS_MAKE_HIDDEN and width and model.hidden_size not in {0, width}:
        yield (
            f"needs heads that make up hidden_size ({model.hidden_size}) for {name}; found {heads} of {model.head_dim}"
        )
    if name in given.AS_MANY_KEY_HEADS and model.kv_heads != heads:
        yield f"needs as many key heads as heads ({heads}) for {name}; found {model.kv_heads}"


def _vocabulary(name: str, config: ConfigJson) -> Iterator[str]:
    if name not in given.VOCABULARY_MULTIPLE:
        return
    multiple = config.whole("pad_vocab_size_multiple", given.VOCABULARY_MULTIPLE[name])
    size = config.whole("vocab_size", 0)
    if multiple > 0 and size % multiple:
        yield f"needs a vocab_size that {multiple} divides, since the converter rounds it up for {name}; found {size}"


def _caps(name: str, config: ConfigJson) -> Iterator[str]:
    """conversion/gemma.py:98 writes both caps of Gemma 2, and :153 ends where Gemma 3 has one of attention."""
    if name == "Gemma2ForCausalLM":
        for field in ("attn_logit_softcapping", "final_logit_softcapping"):
            if field in config.fields and config.fields[field] is None:
                yield f"needs {field}, which the converter writes for {name}; found null"
    if name == "Gemma3ForCausalLM" and config.fields.get("attn_logit_softcapping") is not None:
        found = config.fields["attn_logit_softcapping"]
        yield f"needs no attn_logit_softcapping for {name}; found {found}"


def _declared(config: ConfigJson) -> Iterator[str]:
    """conversion/base.py:518 reads `format` beside the groups alone, and :525 ends on more than one group."""
    declared = config.table("quantization_config")
    if declared.text("quant_method", None) != "compressed-tensors":
        return
    groups = declared.table("config_groups").fields
    if len(groups) > 1:
        yield f"needs one group in config_groups, which is all that the converter takes; found {len(groups)}"
    if declared.text("format", None) is None:
        yield "needs format in quantization_config itself, where the converter reads it; found none there"


def _flags(name: str, config: ConfigJson) -> Iterator[str]:
    for field, (taken, left_out) in given.FLAGS.get(name, {}).items():
        found = left_out if config.fields.get(field) is None else config.flag(field)
        if found is not taken:
            yield f"needs {field} {taken}, which llama.cpp takes for {name}; found {found}"


def _numbers(name: str, config: ConfigJson) -> Iterator[str]:
    for field, (taken, left_out) in given.NUMBERS.get(name, {}).items():
        found = config.number(field, left_out)
        if not math.isclose(found, taken):
            yield f"needs {field} {taken:g}, which llama.cpp takes for {name}; found {found:g}"


def _indexer(name: str, config: ConfigJson) -> Iterator[str]:
    width = config.whole("index_head_dim", 128)
    if name in given.INDEXED and width % 64:
        yield f"needs an index_head_dim that 64 divides for {name}; found {width}"


def _attention_scale(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    # Of the 27B models alone, llama.cpp knows that they scale by hidden_size / heads.
    largest = {"Gemma2ForCausalLM": 46, "Gemma3ForCausalLM": 62}.get(name)
    if largest is None:
        return
    needed = model.hidden_size // model.heads if model.layers == largest and model.heads else model.head_dim
    scalar = config.number("query_pre_attn_scalar", 256)
    if scalar != needed:
        yield f"needs query_pre_attn_scalar {needed}, which llama.cpp takes; found {scalar}"


def _query_norm(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    if name == "CohereForCausalLM" and config.flag("use_qk_norm") is not (model.layers >= 64):
        needed, found = model.layers >= 64, config.flag("use_qk_norm")
        yield f"needs use_qk_norm {needed}, which llama.cpp takes for {model.layers} layers; found {found}"


def _query_rank(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    """src/models/deepseek2.cpp:8 knows by the number of layers which models do not compress their queries."""
    if name not in given.LATENT:
        return
    lite = model.layers in {26, 27} or (model.layers == 48 and config.whole("vocab_size", 0) == 128256)
    compressed = config.fields.get("q_lora_rank", 1536) is not None
    if compressed is lite:
        needed, found = ("no q_lora_rank", "one") if lite else ("a q_lora_rank", "none")
        yield f"needs {needed}, which llama.cpp takes for {name} of {model.layers} layers; found {found}"
