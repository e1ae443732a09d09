"""The depths to which models are cut, and what is told of a model's first layers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.checkpoints.cut_config import cut_config
from calibration.rung import Rung
from selector.model import config as configs
from selector.model.files.sources import read_config
from selector.model.rungs import kinds_of, rungs_of, spec_at
from selector.model.spec import ModelSpec, shape_names

ROOT = Path(__file__).parents[3]
FOLDERS = sorted(
    folder.parent
    for models in (ROOT / "tests" / "data" / "models", ROOT / "selector" / "model" / "files" / "library")
    for folder in models.glob("*/config.json")
)

DEPTHS = {
    "shape:llama-3.1-8b": (3, 8, 32),
    "shape:smollm2-135m": (3, 7, 30),
    "shape:qwen2.5-0.5b": (2, 6, 24),
    "shape:qwen3-30b-a3b": (5, 12, 48),
    "shape:gpt2": (2, 12),  # 4 layers would have more than half of the parameters
    "shape:gemma-3-270m": (18,),  # 6 layers, one period, would have three quarters: most of it is the vocabulary
    "none-gemma2": (2, 6, 26),  # window and full in turn
    "none-gemma3": (6, 34),  # five windows and a full attention
    "none-qwen3_next": (4, 12, 48),  # three linear attentions and a full one
    "none-jamba": (8, 32),  # an attention in eight layers, experts in every second
    "none-deepseek_v2": (3, 7, 27),  # one dense layer, then experts
    "none-mamba": (2, 6, 24),
    "mxfp4-gpt_oss": (2, 6, 24),
    "none-qwen2_5_omni": (3, 7, 28),  # the language model is two objects deep
}

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}


def rungs(folder: Path, **fields: Any) -> list[int]:
    """Depths of a model with these fields in its config.json."""
    (folder / "config.json").write_text(json.dumps({**LLAMA, **fields}))
    return [rung.layers for rung in rungs_of(ModelSpec.read(folder))]


@pytest.mark.parametrize("name", DEPTHS)
def test_rungs(name: str) -> None:
    model = name if name.startswith("shape:") else ROOT / "tests" / "data" / "models" / name
    spec = ModelSpec.read(model)
    found = rungs_of(spec)
    assert tuple(rung.layers for rung in found) == DEPTHS[name]
    assert {rung.of for rung in found} == {spec.layers}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_a_cut_config_tells_of_its_layers_what_the_whole_tells_of_them(folder: Path) -> None:
    content, where, beside = read_config(folder)
    whole = configs.read(content, where, beside=beside)
    of = len(whole.shape.layers.mixers)
    for layers in range(2, of):
        cut_content = cut_config(content, Rung(layers=layers, of=of))
        cut = configs.read(cut_content, where, beside=beside)
        assert kinds_of(cut_content, cut) == kinds_of(content, whole)[:layers]
        same = ("hidden", "heads", "kv_heads", "head_dim", "value_dim", "vocab", "max_position", "experts")
        assert [getattr(cut.shape, name) for name in same] == [getattr(whole.shape, name) for name in same]
        assert replace(cut.quant, ignored=()) == replace(whole.quant, ignored=())
        assert (cut.architecture, cut.dtype, cut.tied, cut.vision) == (
            *(whole.architecture, whole.dtype, whole.tied, whole.vision),
        )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_every_rung_keeps_each_kind_of_layer(folder: Path) -> None:
    content, where, beside = read_config(folder)
    kinds = kinds_of(content, configs.read(content, where, beside=beside))
    for rung in rungs_of(ModelSpec.read(folder)):
        assert set(kinds[: rung.layers]) == set(kinds)
        assert rung.whole or 2 <= rung.layers <= rung.of / 3


def test_models_of_few_layers_are_launched_whole(tmp_path: Path) -> None:
    assert rungs(tmp_path, num_hidden_layers=1) == [1]
    assert rungs(tmp_path, num_hidden_layers=4) == [4]
    assert rungs(tmp_path, num_hidden_layers=12) == [2, 4, 12]


def test_first_dense_layers_are_kept(tmp_path: Path) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
    assert rungs(tmp_path, num_hidden_layers=61, first_k_dense_replace=3, **experts) == [6, 15, 61]
    assert rungs(tmp_path, num_hidden_layers=24, mlp_only_layers=[0, 1], **experts) == [3, 6, 24]
    # Half of the model is dense, and the experts come after it: no few layers have both.
    assert rungs(tmp_path, num_hidden_layers=24, first_k_dense_replace=12, **experts) == [24]


def test_layers_that_share_keys_and_values_are_a_kind(tmp_path: Path) -> None:
    """Gemma 3n: the last layers take the keys and values of earlier ones, and no first layers do."""
    assert rungs(tmp_path, num_hidden_layers=30, num_kv_shared_layers=15) == [30]
    assert rungs(tmp_path, num_hidden_layers=30, num_kv_shared_layers=0) == [3, 7, 30]


def test_exceptions_at_the_end_break_no_pattern(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 10
    kinds[-2] = "full_attention"
    assert rungs(tmp_path, num_hidden_layers=30, layer_types=kinds, sliding_window=512) == [3, 6, 30]


def test_without_a_period_the_shares_of_the_kinds_count(tmp_path: Path) -> None:
    """Nemotron 3 Nano: mamba and experts in turn, and an attention after every three pairs, sometimes four."""
    pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
    mamba = {"mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1, "conv_kernel": 4}
    fields = {"model_type": "nemotron_h", "n_routed_experts": 8, "moe_intermediate_size": 64, **mamba}
    found = rungs(tmp_path, num_hidden_layers=52, hybrid_override_pattern=pattern, num_experts_per_tok=2, **fields)
    assert found == [7, 14, 52]


def test_layers_that_all_differ_are_launched_whole(tmp_path: Path) -> None:
    widths = [64 + 8 * layer for layer in range(24)]
    assert rungs(tmp_path, num_hidden_layers=24, intermediate_size=widths) == [24]


def test_a_config_that_changed_meanwhile_has_only_the_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": 30}))
    spec = ModelSpec.read(tmp_path)
    for content in ("{", "[]", json.dumps({**LLAMA, "num_hidden_layers": "many"})):
        (tmp_path / "config.json").write_text(content)
        assert rungs_of(spec) == (Rung(layers=30, of=30),)
    (tmp_path / "config.json").unlink()
    assert rungs_of(spec) == (Rung(layers=30, of=30),)


@pytest.mark.parametrize("name", shape_names())
def test_first_layers_are_a_smaller_model_of_the_same_name(name: str) -> None:
    spec = ModelSpec.read(f"shape:{name}")
    *shallow, whole = [spec_at(spec, rung) for rung in rungs_of(spec)]
    assert whole is spec
    for cut in shallow:
        assert (cut.name, cut.architecture, cut.vocab_size) == (spec.name, spec.architecture, spec.vocab_size)
        assert cut.weight_bytes / spec.weight_bytes == pytest.approx(cut.parameters / spec.parameters, rel=0.01)
        assert cut.kv_bytes(1024, 1) == pytest.approx(spec.kv_bytes(1024, 1) * cut.layers / spec.layers)


def test_parameters_of_three_layers_of_llama() -> None:
    spec = ModelSpec.read("shape:llama-3.1-8b")
    layer = 4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14336 + 2 * 4096
    assert spec_at(spec, Rung(layers=3, of=32)).parameters == 2 * 128256 * 4096 + 4096 + 3 * layer
