"""The hash of a config: what can change what is computed is in it, names and tools are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.errors import ModelError
from selector.model.config_hash import computing_metadata, config_hash
from selector.model.spec import ModelSpec
from tests.selector.twins import LLAMA, TWINS, write

NESTED: dict[str, Any] = {"text_config": LLAMA, "vision_config": {"depth": 2}}


@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_twins_share_their_times_and_nothing_else(tmp_path: Path, twins: tuple[dict[str, Any], ...]) -> None:
    first, second = (ModelSpec.read(write(tmp_path / f"{i}", config)) for i, config in enumerate(twins))
    assert (first.fingerprint, first.architecture, first.dtype) == (second.fingerprint, second.architecture, "float32")
    assert first.config_hash != second.config_hash


@pytest.mark.parametrize(
    "beside",
    [
        {"_name_or_path": "meta-llama/Llama-3.2-1B"},
        {"transformers_version": "5.23.0"},
        {"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": None, "image_token_index": 7},
        {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
        {"task_specific_params": {"text-generation": {"max_length": 50}}},
        {"use_cache": False, "num_beams": 4},
    ],
)
def test_names_tools_and_token_ids_do_not_count(beside: dict[str, Any]) -> None:
    assert config_hash({**LLAMA, **beside}) == config_hash(LLAMA)
    assert config_hash({"text_config": {**LLAMA, **beside}, "vision_config": {"depth": 2}}) == config_hash(NESTED)


@pytest.mark.parametrize(
    "beside",
    [
        {"a_key_that_nobody_knows": 1},
        {"sliding_window": None},
        {"tie_word_embeddings": False},
        {"rope_theta": 10000.5},
        {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
        {"architectures": ["OtherForCausalLM"]},
        {"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}},
        {"ps_version": "v2"},
        {"layer_types": ["full_attention", "sliding_attention"]},
    ],
)
def test_all_else_counts(beside: dict[str, Any]) -> None:
    assert config_hash({**LLAMA, **beside}) != config_hash(LLAMA)
    assert config_hash({"text_config": {**LLAMA, **beside}, "vision_config": {"depth": 2}}) != config_hash(NESTED)


def test_one_config_has_one_hash_however_it_is_written() -> None:
    backwards = dict(reversed(LLAMA.items()))
    assert config_hash({**backwards, "rope_theta": 10000}) == config_hash({**LLAMA, "rope_theta": 1e4})
    plain = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    dtypes = ({"torch_dtype": "bfloat16"}, {"dtype": "bfloat16"}, {"torch_dtype": "torch.bfloat16"})
    assert len({config_hash({**plain, **dtype}) for dtype in dtypes}) == 1


def test_the_order_of_a_list_counts() -> None:
    one, other = ({**LLAMA, "layer_types": kinds} for kinds in (["full", "window"], ["window", "full"]))
    assert config_hash(one) != config_hash(other)


def test_a_file_beside_it_that_declares_the_quant_format_counts(tmp_path: Path) -> None:
    hashes = set()
    for group in (None, 64, 128):
        folder = tmp_path / str(group)
        write(folder, LLAMA)
        if group:
            declared = {"bits": 4, "group_size": group, "sym": True, "desc_act": False}
            (folder / "quantize_config.json").write_text(json.dumps(declared))
        hashes.add(ModelSpec.read(str(folder)).config_hash)
    assert len(hashes) == 3


def test_the_metadata_of_a_gguf_file_counts_but_names_and_the_tokenizer() -> None:
    values = {
        "general.architecture": "gemma2",
        "general.file_type": 2,
        "general.name": "Gemma 2 9b",
        "gemma2.final_logit_softcapping": 30.0,
        "tokenizer.ggml.model": "llama",
        "quantize.imatrix.file": "/tmp/imatrix.dat",
    }
    assert computing_metadata(values) == {
        "general.architecture": "gemma2",
        "general.file_type": 2,
        "gemma2.final_logit_softcapping": 30.0,
    }


def test_a_config_that_is_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"inner": deep}
    with pytest.raises(ModelError, match="nested too deeply"):
        config_hash(deep)
