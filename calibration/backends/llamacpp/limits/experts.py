"""Mixtures of experts that llama.cpp routes, or its converter writes, otherwise than the model."""

from collections.abc import Iterator

from calibration.backends.llamacpp.limits import given
from calibration.config_json import ConfigJson


def experts(name: str, config: ConfigJson) -> Iterator[str]:
    """By the converter's name of the architecture."""
    yield from _routing(name, config)
    yield from _shared_experts(name, config)


def _routing(name: str, config: ConfigJson) -> Iterator[str]:
    if name in given.NORMALISED_EXPERTS:
        normalised, taken = config.flag("norm_topk_prob"), given.NORMALISED_EXPERTS[name]
        if normalised is not taken:
            yield f"needs norm_topk_prob {taken}, which llama.cpp takes for {name}; found {normalised}"
    if name == "DeepseekV2ForCausalLM" and (groups := config.whole("n_group", 1)) > 1:
        # transformers ranks groups by their best expert, llama.cpp by their two best, as DeepSeek-V3 does.
        yield f"needs one group of experts, since llama.cpp ranks groups otherwise than {name}; found {groups}"
    if name in given.EXPERTS_ALONE:
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
