"""What llama.cpp or its converter gets wrong, told from a model and its config.json."""

import math
from collections.abc import Iterator

from calibration.backend import Model
from calibration.backends.llamacpp import given
from calibration.backends.llamacpp.table import OTHER_NAMES
from calibration.config_json import ConfigJson

FORMATS = frozenset({
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q2_k_s", "q3_k_s", "q3_k_m", "q3_k_l",
    "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m",
    "iq3_xxs", "iq3_xs", "iq3_s", "iq3_m", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4", "mixed",
})  # fmt: skip
"""File types of llama.cpp's include/llama.h (enum llama_ftype), each of tensor types that its CPU code computes."""

# "dynamic" is computed as "default", and is the same up to the model's positions. "longrope" is right while prompts and
# context are on one side of the original positions: llama.cpp chooses the factors by the latter.
ROPE_TYPES = frozenset({"default", "dynamic", "linear", "llama3", "longrope", "yarn"})

_LAYER_KINDS = ("full_attention", "sliding_attention")
"""Kinds of layer that may have rotations of their own in rope_parameters."""


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
        *_rope(name, model, config),
        *_rotated_width(model, config),
        *_caps(name, config),
        *_declared(config),
        *_flags(name, config),
        *_numbers(name, config),
        *_experts(name, config),
        *_shared_experts(name, config),
        *_indexer(name, config),
        *_sections(name, model, config),
        *_recurrent_layers(name, config),
        *_dense_layers(name, config),
        *_chunks(name, model, config),
        *_attention_scale(name, model, config),
        *_window_layers(name, model, config),
        *_rotated_layers(name, model, config),
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


def _rope(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    if name in given.ROPE_THETA and model.rope_theta not in {None, 1e4}:
        yield f"needs rope_theta 10000, which llama.cpp takes for {name}; found {model.rope_theta:g}"
    kinds, kind = given.ROPE_TYPES.get(name), model.rope_type
    if kinds is not None and kind not in kinds | {"none"} and kind in ROPE_TYPES:
        yield f"needs rope type {' or '.join(sorted(kinds))}, which the converter writes for {name}; found {kind}"
    elif kind == "yarn":
        yield from _yarn(config)
    elif kind == "longrope":
        yield from _long_scale(model, config)


def _long_scale(model: Model, config: ConfigJson) -> Iterator[str]:
    """conversion/phi.py:188 takes the ratio of the two lengths for the factor, whatever the config says."""
    scaling = _scaling(config)
    original = scaling.whole("original_max_position_embeddings", config.whole("original_max_position_embeddings", 0))
    if original <= 1 or model.max_position <= 0:
        return
    ratio = model.max_position / original
    factor = scaling.number("factor", None) or ratio
    written, usual = (
        math.sqrt(1 + math.log(each) / math.log(original)) if each > 1 else 1.0 for each in (ratio, factor)
    )
    attention = scaling.number("attention_factor", None) or usual
    if not math.isclose(attention, written, rel_tol=1e-4):
        yield f"needs an attention factor of {written:.4g}, which the converter writes; found {attention:.4g}"


def _rotated_width(model: Model, config: ConfigJson) -> Iterator[str]:
    """ggml-cpu/ops.cpp:6355 aborts where an odd number of a head's values is rotated."""
    rotations = config.table("rope_parameters")
    said = (config, rotations, *(rotations.table(kind) for kind in _LAYER_KINDS))
    parts = {fields.number("partial_rotary_factor", None) for fields in said} - {None}
    for width in sorted({int(model.head_dim * part) for part in parts if part is not None}):
        if width % 2:
            yield f"needs an even number of rotated values in a head; found {width} of {model.head_dim}"


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
    """conversion/base.py:518 reads `format` beside the groups alone."""
    declared = config.table("quantization_config")
    if declared.text("quant_method", None) == "compressed-tensors" and declared.text("format", None) is None:
        yield "needs format in quantization_config itself, where the converter reads it; found none there"


def _scaling(config: ConfigJson) -> ConfigJson:
    return config.table("rope_parameters" if "rope_parameters" in config.fields else "rope_scaling")


def _yarn(config: ConfigJson) -> Iterator[str]:
    """llama.cpp scales attention by what it computes from the factor, whatever the config says."""
    scaling = _scaling(config)
    factor = scaling.number("factor", 1.0)
    usual = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    attention = scaling.number("attention_factor", None)
    if attention is not None and not math.isclose(attention, usual, rel_tol=1e-4):
        yield f"needs attention_factor {usual:.4g}, which llama.cpp computes from the factor; found {attention:g}"


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


def _experts(name: str, config: ConfigJson) -> Iterator[str]:
    if name in given.NORMALISED_EXPERTS:
        normalised, taken = config.flag("norm_topk_prob"), given.NORMALISED_EXPERTS[name]
        if normalised is not taken:
            yield f"needs norm_topk_prob {taken}, which llama.cpp takes for {name}; found {normalised}"
    if name == "DeepseekV2ForCausalLM" and (groups := config.whole("n_group", 1)) > 1:
        # transformers ranks groups by their best expert, llama.cpp by their two best, as DeepSeek-V3 does.
        yield f"needs one group of experts, since llama.cpp ranks groups otherwise than {name}; found {groups}"
    if name == "Qwen3MoeForCausalLM":
        dense_layers = config.rows("mlp_only_layers") or config.whole("decoder_sparse_step", 1) != 1
        if dense_layers:
            yield "needs experts in every layer to convert; found dense layers among them"


def _shared_experts(name: str, config: ConfigJson) -> Iterator[str]:
    """conversion/ernie.py:96 writes intermediate_size // num_key_value_heads as the width of all shared experts."""
    if name != "Ernie4_5_MoeForCausalLM" or not (shared := config.whole("moe_num_shared_experts", 0)):
        return
    width = shared * config.whole("moe_intermediate_size", 1536)
    written = config.whole("intermediate_size", 12288) // max(1, config.whole("num_key_value_heads", 4))
    if width != written:
        yield (
            f"needs shared experts as wide as intermediate_size / num_key_value_heads ({written}), which the converter"
            f" writes for {name}; found {width}"
        )


def _indexer(name: str, config: ConfigJson) -> Iterator[str]:
    width = config.whole("index_head_dim", 128)
    if name in given.INDEXED and width % 64:
        yield f"needs an index_head_dim that 64 divides for {name}; found {width}"


def _sections(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    """conversion/qwen.py:642 writes [11, 11, 10] where rope_parameters have none; ggml-cpu/ops.cpp:6231 aborts."""
    if name not in {"Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen4ExpForCausalLM"}:
        return
    rows = config.table("rope_parameters").rows("mrope_section") or [11, 11, 10]
    total = sum(row for row in rows if isinstance(row, int))
    if total > model.head_dim > 0:
        yield f"needs a head_dim of at least {total}, the sum of mrope_section, for {name}; found {model.head_dim}"


def _recurrent_layers(name: str, config: ConfigJson) -> Iterator[str]:
    kinds = config.rows("layer_types")
    if name in given.RECURRENT and kinds and given.RECURRENT[name] not in kinds:
        yield f"needs a layer of kind {given.RECURRENT[name]}, or llama.cpp aborts; found none"


def _dense_layers(name: str, config: ConfigJson) -> Iterator[str]:
    """conversion/nemotron.py:209 knows layers of experts alone by name; of others it finds the dense ones nowhere."""
    named = "hybrid_override_pattern" not in config.fields
    if name == "NemotronHForCausalLM" and named and "mlp" in config.rows("layers_block_type"):
        yield f"needs no dense layer for {name}; found mlp in layers_block_type"


def _chunks(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    """src/models/llama4.cpp:14 takes chunks of 8192 tokens."""
    chunk = config.whole("attention_chunk_size", 8192)
    chunked = "chunked_attention" in (config.rows("layer_types") or ["chunked_attention"])
    if name == "Llama4ForCausalLM" and chunked and min(chunk, model.max_position) != min(8192, model.max_position):
        yield f"needs attention_chunk_size 8192, which llama.cpp takes for {name}; found {chunk}"


def _attention_scale(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    # Of the 27B models alone, llama.cpp knows that they scale by hidden_size / heads.
    largest = {"Gemma2ForCausalLM": 46, "Gemma3ForCausalLM": 62}.get(name)
    if largest is None:
        return
    needed = model.hidden_size // model.heads if model.layers == largest and model.heads else model.head_dim
    scalar = config.number("query_pre_attn_scalar", 256)
    if scalar != needed:
        yield f"needs query_pre_attn_scalar {needed}, which llama.cpp takes; found {scalar}"


def _window_layers(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    period, kinds = given.WINDOW_PERIOD.get(name), config.rows("layer_types")
    if name == "LagunaForCausalLM" and "sliding_attention" in kinds:
        expected = ["sliding_attention" if i % 4 else "full_attention" for i in range(model.layers)]
        if kinds != expected:  # src/models/laguna.cpp:41
            yield "needs full attention in the first of each four layers alone; found other layers"
    if name == "Exaone4ForCausalLM" and bool(model.sliding_window) is not (model.layers == 64):
        # Of that size alone it honours the window and leaves the layers without one unrotated.
        window = "a" if model.sliding_window else "no"
        needed = "needs a sliding window with 64 layers and none with fewer"
        yield f"{needed}; found {window} window with {model.layers} layers"
    if period is None or not model.sliding_window:
        return
    expected = ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(model.layers)]
    written = config.whole(
        "global_attn_every_n_layers" if name == "AfmoeForCausalLM" else "sliding_window_pattern", period
    )
    if kinds != expected if kinds else written != period:
        yield f"needs full attention in every layer whose number {period} divides; found other layers"


def _rotated_layers(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    if name != "SmolLM3ForCausalLM":
        return
    rotated = config.rows("no_rope_layers")
    expected = [int((i + 1) % 4 != 0) for i in range(model.layers)]
    if rotated != expected if rotated else config.whole("no_rope_layer_interval", 4) != 4:
        yield f"needs rotation in every layer but each fourth, which llama.cpp takes for {name}; found other layers"


def _query_norm(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    if name == "CohereForCausalLM" and config.flag("use_qk_norm") is not (model.layers >= 64):
        needed, found = model.layers >= 64, config.flag("use_qk_norm")
        yield f"needs use_qk_norm {needed}, which llama.cpp takes for {model.layers} layers; found {found}"


def _query_rank(name: str, model: Model, config: ConfigJson) -> Iterator[str]:
    if name not in {"DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"}:
        return
    lite = model.layers in {26, 27}  # by their number it knows DeepSeek-V2-Lite, whose queries are not compressed
    compressed = config.fields.get("q_lora_rank", 1536) is not None
    if compressed is lite:
        needed, found = ("no q_lora_rank", "one") if lite else ("a q_lora_rank", "none")
        yield f"needs {needed}, which llama.cpp takes for {name} of {model.layers} layers; found {found}"
