"""config_hash: a hash of everything in a config that can change what the model computes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from calibration.errors import ModelError

_NAMES: Final = frozenset({
    "_name_or_path", "name_or_path", "model_name_or_path", "model_file_base_name", "_commit_hash", "producer",
    "transformers_version", "diffusers_version", "torch_version", "unsloth_version", "unsloth_fixed",
})  # fmt: skip
"""Who published the model, and which tool wrote the file.

Listed one by one: other versions say how the model computes (`version: gemm` of awq, `ps_version` of InternVL).
"""

_LABELS: Final = frozenset({
    "id2label", "label2id", "num_labels", "_num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "tokenizer_class",
})  # fmt: skip
"""What a classifier's outputs are called, and what other programs do with the model."""

_GENERATION: Final = frozenset({
    "use_cache", "output_attentions", "output_hidden_states", "output_scores", "return_dict", "return_dict_in_generate",
    "do_sample", "early_stopping", "num_beams", "num_beam_groups", "num_return_sequences", "diversity_penalty",
    "length_penalty", "repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "typical_p",
    "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "exponential_decay_length_penalty",
    "remove_invalid_values",
})  # fmt: skip
"""What `generate` does with the scores: the check is greedy and forces lengths.

`top_k`, `temperature` and `max_length` are not among them: configs also use these names for experts, scores and
positions.
"""

_TOKEN_IDS: Final = ("token_id", "token_ids", "token_index")
"""Endings of names that hold ids of tokens (`eos_token_id`, `image_token_index`)."""

_GGUF_KEPT: Final = ("general.architecture", "general.file_type")
"""Of a .gguf file's `general.` metadata; the rest are names, authors, links and dates."""


def config_hash(content: Mapping[str, Any], *beside: Mapping[str, Any]) -> str:
    """Hash a config.json; two configs with the same hash compute the same function of the same weights.

    Every key counts, at any depth, except names, versions of tools, token ids, labels and settings of `generate`. An
    unknown key counts, which costs a check too many, never a check too few. A null counts: with `sliding_window: null`
    Mistral has no window, without the key its class takes a window of 4096. All of `auto_map` counts, since it names
    the code. The order of keys does not count, nor `dtype` for `torch_dtype`, nor `1e4` for `10000`.

    Args:
        content: what is in config.json, or what stands for it.
        beside: what is in the files beside it that declare the quant format.

    Returns:
        16 hexadecimal digits.

    Raises:
        ModelError: the config is nested too deeply.
    """
    try:
        text = json.dumps([_kept(part) for part in (content, *beside)], sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise ModelError("the config is nested too deeply", "fetch it again from where it was published") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def computing_metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a .gguf file's metadata what can change what is computed: all but names and the tokenizer's."""
    return {
        key: value
        for key, value in values.items()
        if key in _GGUF_KEPT or not key.startswith(("general.", "tokenizer.", "quantize."))
    }


def _kept(value: Any) -> Any:
    """A value of JSON without what cannot change what is computed, in one spelling."""
    match value:
        case Mapping():
            return dict(_spelled(str(key), _kept(inner)) for key, inner in value.items() if not _dropped(str(key)))
        case list() | tuple():
            return [_kept(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _dropped(key: str) -> bool:
    return key in _NAMES or key in _LABELS or key in _GENERATION or key.endswith(_TOKEN_IDS)


def _spelled(key: str, value: Any) -> tuple[str, Any]:
    if key not in {"dtype", "torch_dtype"}:
        return key, value
    return "dtype", value.removeprefix("torch.") if isinstance(value, str) else value
