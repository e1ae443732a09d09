"""What a model weighs: parameters, files, indexes, KV cache."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.errors import ModelError
from selector.model.spec import ModelSpec, shape_names
from tests.selector.model.model_folders import GOLDEN, folder, golden

PUBLISHED = {
    # in millions: what transformers 5.23 allocates for the class, which the cards round; else from the card
    "shape:gpt2": 124.4,
    "shape:smollm2-135m": 134.5,
    "shape:smollm2-360m": 361.8,
    "shape:qwen2.5-0.5b": 494.0,
    "shape:qwen3-0.6b": 596.0,
    "shape:llama-3.2-1b": 1235.8,
    "shape:gemma-3-270m": 268.1,
    "shape:granite-3.0-1b-a400m": 1334.6,
    "shape:qwen2.5-7b": 7615.6,
    "shape:qwen3-8b": 8190.7,
    "shape:llama-3.1-8b": 8030.3,
    "shape:qwen3-30b-a3b": 30532.1,
    "none-gpt_bigcode": 1124.9,
    "none-bloom": 559.2,
    "none-opt": 125.2,
    "none-mpt": 6649.3,
    "none-gpt_neox": 162.3,
    "none-mistral": 7241.7,
    "none-gemma2": 2614.3,
    "none-gemma3": 4300.0,
    "none-llava": 7063.4,
    "none-phi3": 3821.1,
    "none-internlm2": 7737.7,
    "none-chatglm": 6243.6,
    "none-internvl_chat": 938.2,
    "none-qwen2_moe": 14315.8,
    "none-deepseek_v2": 15706.5,
    "none-dbrx": 131597.0,
    "none-mamba": 129.1,
    "none-jamba": 51570.3,
    "none-qwen3_next": 79674.4,
    "mxfp4-gpt_oss": 20914.8,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name: str) -> None:
    spec = ModelSpec.read(name) if name.startswith("shape:") else golden(name)
    assert spec.parameters == pytest.approx(PUBLISHED[name] * 1e6, rel=0.006)


COUNT = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
for folder in sys.argv[1:]:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    print(sum(parameter.numel() for parameter in model.parameters()))
"""


@pytest.mark.engine
def test_shapes_are_what_transformers_makes_of_them() -> None:
    specs = [ModelSpec.read(f"shape:{name}") for name in shape_names()]
    folders = [str(spec.folder) for spec in specs]
    done = subprocess.run([sys.executable, "-c", COUNT, *folders], capture_output=True, text=True, check=True)
    counted = [int(line) for line in done.stdout.split()]
    assert [spec.parameters for spec in specs] == [pytest.approx(count, rel=0.0005) for count in counted]


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        # the published files, give or take tokenizer and rounding
        ("awq-4bit-g128-qwen2", 5.57),
        ("gptq-4bit-g128-qwen2", 5.58),
        ("fp8-e4m3-128x128-qwen3", 9.44),
        ("fp8-e4m3-static-llama", 9.08),
        ("compressed-tensors-4bit-g128-llama", 5.70),
        ("compressed-tensors-8bit-channel-a8-llama", 9.08),
        ("mxfp4-gpt_oss", 13.76),
        ("none-mistral", 14.48),
        ("shape:llama-3.1-8b", 16.06),
    ],
)
def test_weights_are_estimated_where_there_are_none(name: str, gigabytes: float) -> None:
    spec = ModelSpec.read(name) if name.startswith("shape:") else golden(name)
    assert not spec.has_weights
    assert spec.weight_bytes == pytest.approx(gigabytes * 1e9, rel=0.01)


def test_weights_are_what_the_files_weigh(tmp_path: Path) -> None:
    spec = ModelSpec.read(folder(tmp_path, model__safetensors=b"w" * 1000, adapter_model__safetensors=b"a" * 9))
    assert (spec.has_weights, spec.weight_bytes) == (True, 1000)


def test_safetensors_go_before_bin_files(tmp_path: Path) -> None:
    path = folder(tmp_path, pytorch_model__bin=b"b" * 70, model__safetensors=b"w" * 50, training_args__bin=b"t")
    assert ModelSpec.read(path).weight_bytes == 50
    (tmp_path / "model.safetensors").unlink()
    assert ModelSpec.read(path).weight_bytes == 70


def test_sharded_weights_are_summed(tmp_path: Path) -> None:
    index = {
        "metadata": {"total_size": 999, "total_parameters": 777},
        "weight_map": {"a": "1.safetensors", "b": "2.safetensors"},
    }
    path = folder(tmp_path, model__safetensors__index__json=index)
    (tmp_path / "1.safetensors").write_bytes(b"1" * 30)
    (tmp_path / "2.safetensors").write_bytes(b"2" * 40)
    (tmp_path / "consolidated.safetensors").write_bytes(b"3" * 70)
    spec = ModelSpec.read(path)
    assert (spec.has_weights, spec.weight_bytes, spec.parameters) == (True, 70, 777)


def test_index_that_names_missing_files(tmp_path: Path) -> None:
    index = {"weight_map": {str(shard): f"model-{shard}.safetensors" for shard in range(5)}}
    path = folder(tmp_path, model__safetensors__index__json=index)
    (tmp_path / "model-3.safetensors").write_bytes(b"3")
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(path)
    assert refused.value.message == (
        f"{tmp_path}/model.safetensors.index.json names 4 of 5 files that are not there: "
        "model-0.safetensors, model-1.safetensors, model-2.safetensors ..."
    )
    assert refused.value.mend == (
        "fetch the missing files, or remove model.safetensors.index.json to work with the shape alone"
    )


@pytest.mark.parametrize(
    "weight_map", [None, [], {}, 3, {"a": 1}, {"a": ""}, {"a": "../../etc/passwd"}, {"a": "/etc/passwd"}, {"a": "x\0y"}]
)
def test_index_that_is_none(tmp_path: Path, weight_map: object) -> None:
    path = folder(tmp_path, model__safetensors__index__json={"weight_map": weight_map})
    with pytest.raises(ModelError, match="weight_map needs"):
        ModelSpec.read(path)


def test_identity_of_the_weights_changes_with_them(tmp_path: Path) -> None:
    path = folder(tmp_path, model__safetensors=b"w" * 10)
    first = ModelSpec.read(path)
    assert ModelSpec.read(path) == first
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    touched = ModelSpec.read(path)
    (tmp_path / "model.safetensors").write_bytes(b"w" * 11)
    resized = ModelSpec.read(path)
    (tmp_path / "config.json").write_bytes((tmp_path / "config.json").read_bytes() + b"\n")
    reconfigured = ModelSpec.read(path)
    identities = [spec.weights_identity for spec in (first, touched, resized, reconfigured)]
    assert len(set(identities)) == 4
    assert len({spec.fingerprint for spec in (first, touched, resized, reconfigured)}) == 1


def test_fingerprint_tells_shapes_apart() -> None:
    prints = {name: ModelSpec.read(f"shape:{name}").fingerprint for name in shape_names()}
    assert len(set(prints.values())) == len(prints)
    assert all(len(print_) == 12 and int(print_, 16) >= 0 for print_ in prints.values())


@pytest.mark.parametrize(
    ("name", "tokens", "kilobytes"),
    [
        ("shape:llama-3.1-8b", 1000, 131072),  # 2 x 8 heads x 128 x 2 bytes x 32 layers a token
        ("shape:gemma-3-270m", 10_000, (15 * 512 + 3 * 10_000) * 512 * 2 / 1000),  # 15 of 18 layers see 512 tokens
        ("none-mistral", 8192, 4096 * 131072 / 1000),
        ("none-deepseek_v2", 1000, 27 * 576 * 2),  # MLA keeps one latent, 512 + 64
        ("none-jamba", 1000, 4 * 2 * 8 * 128 * 2),  # 4 of 32 layers attend
        ("none-qwen3_next", 1000, 12 * 2 * 2 * 256 * 2),  # every fourth of 48
        ("none-mamba", 1000, 0),
        ("none-falcon", 1000, 32 * 2 * 64 * 2),  # one KV head for 71
    ],
)
def test_kv_cache(name: str, tokens: int, kilobytes: float) -> None:
    spec = ModelSpec.read(name) if name.startswith("shape:") else golden(name)
    assert spec.kv_bytes(tokens, 1) == round(kilobytes * 1000)
    assert spec.kv_bytes(tokens, 3, bits=8) == round(kilobytes * 1500)


def test_a_model_that_attends_nowhere_caches_nothing(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "none-qwen3_next" / "config.json").read_text())
    spec = ModelSpec.read(folder(tmp_path, config | {"layer_types": ["linear_attention"] * 48}))
    assert (spec.heads, spec.kv_heads, spec.kv_bytes(1000, 8)) == (16, 2, 0)


def test_a_latent_is_kept_expanded_by_some_engines() -> None:
    # Of 16 heads a key of 128 + 64 numbers and a value of 128.
    assert [(kind.width, kind.expanded_width) for kind in golden("none-deepseek_v2").kept] == [(576, 16 * 320)]
    assert [kind.expanded_width for kind in ModelSpec.read("shape:llama-3.1-8b").kept] == [0]


def test_layers_that_attend_twice_cache_twice(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "none-deepseek_v2" / "config.json").read_text())
    once = ModelSpec.read(folder(tmp_path, config))
    twice = ModelSpec.read(folder(tmp_path, config | {"model_type": "longcat_flash"}))
    assert twice.kv_bytes(1000, 8) == 2 * once.kv_bytes(1000, 8)


def test_kv_cache_of_a_spec_made_by_hand_counts_every_layer() -> None:
    spec = ModelSpec.read("shape:llama-3.1-8b")
    assert replace(spec, key_values=()).kv_bytes(100, 2) == spec.kv_bytes(100, 2)
    windowed = replace(spec, key_values=(), sliding_window=10, window_layers=16)
    assert windowed.kv_bytes(100, 1) == (16 * 100 + 16 * 10) * 2 * 8 * 128 * 2
