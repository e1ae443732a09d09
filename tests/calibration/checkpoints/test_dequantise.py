"""Quantised checkpoints, packed by hand, and the matrices that they stand for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.engines.real_model.gptq_checkpoint import quantised
from calibration.checkpoints.dequantise import dequantise, matrix

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AutoAWQ packs column order[i] of every eight into the i-th four bits."""


def packed_awq(codes: torch.Tensor) -> torch.Tensor:
    """int32 [rows, columns / 8]"""
    words = torch.zeros(codes.shape[0], codes.shape[1] // 8, dtype=torch.int64)
    for place, column in enumerate(AWQ_ORDER):
        words |= codes[:, column::8].long() << (4 * place)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int()


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_gptq_is_its_codes_less_the_zero_point_times_the_scale(draw: torch.Generator) -> None:
    weight = torch.randn(24, 32, generator=draw)
    parts = quantised(weight, 16)
    made = matrix(parts, {"quant_method": "gptq", "bits": 4, "group_size": 16})
    steps = parts["scales"].T.float().repeat_interleave(16, dim=1)
    assert made.shape == weight.shape
    assert ((made.float() - weight).abs() <= 0.51 * steps).all()


def test_gptq_v2_stores_the_zero_point_itself_and_g_idx_orders_the_rows(draw: torch.Generator) -> None:
    codes = torch.randint(0, 16, (16, 8), generator=draw)
    zeros = torch.randint(0, 16, (2, 8), generator=draw)
    scales = torch.rand(2, 8, generator=draw).half()
    group_of = torch.randint(0, 2, (16,), generator=draw)

    def words(numbers: torch.Tensor, axis: int) -> torch.Tensor:
        parts = numbers.long().unflatten(axis, (-1, 8))
        total = sum(parts.select(axis + 1, i) << (4 * i) for i in range(8))
        assert isinstance(total, torch.Tensor)
        return torch.where(total >= 1 << 31, total - (1 << 32), total).int()

    stored = {"qweight": words(codes, 0), "qzeros": words(zeros, 1), "scales": scales, "g_idx": group_of.int()}
    expected = ((codes - zeros[group_of]) * scales[group_of].float()).T
    quant = {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}
    assert torch.equal(matrix(stored, quant), expected)
    one_less = {**stored, "qzeros": words((zeros - 1) % 16, 1)}
    assert torch.equal(matrix(one_less, {**quant, "checkpoint_format": "gptq"}), expected)


def test_awq_packs_its_columns_in_an_order_of_its_own(draw: torch.Generator) -> None:
    codes, zeros = torch.randint(0, 16, (32, 16), generator=draw), torch.randint(0, 16, (2, 16), generator=draw)
    scales = torch.rand(2, 16, generator=draw).half()
    parts = {"qweight": packed_awq(codes), "qzeros": packed_awq(zeros), "scales": scales}
    made = matrix(parts, {"quant_method": "awq", "bits": 4, "version": "GEMM"})
    groups = torch.arange(32) // 16
    assert torch.equal(made, ((codes - zeros[groups]) * scales[groups].float()).T)


def test_a_folder_keeps_what_is_not_quantised(tmp_path: Path, draw: torch.Generator) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    made.mkdir()
    weight, norm = torch.randn(8, 16, generator=draw), torch.rand(16, generator=draw).bfloat16()
    layer = {f"model.q_proj.{name}": part for name, part in quantised(weight, 16).items()}
    save_file({**layer, "model.norm.weight": norm}, source / "model.safetensors")
    quant = {"quant_method": "gptq", "bits": 4, "group_size": 16}
    (source / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": quant}))
    (source / "tokenizer.json").write_text("{}")
    dequantise(source, made)
    config: dict[str, Any] = json.loads((made / "config.json").read_text())
    assert config == {"model_type": "llama", "torch_dtype": "float32"}
    assert (made / "tokenizer.json").exists()
    index = json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == {"model.q_proj.weight", "model.norm.weight"}
    with safe_open(made / index["model.norm.weight"], framework="pt") as shard:
        assert torch.equal(shard.get_tensor("model.norm.weight"), norm)
        assert shard.get_tensor("model.q_proj.weight").dtype is torch.float32


@pytest.mark.parametrize(
    ("quant", "found"),
    [
        ({"quant_method": "gptq", "bits": 3}, "gptq, 3 bits, gptq"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "gptq, 4 bits, marlin"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "awq, 4 bits, gemv"),
        ({"quant_method": "hqq", "bits": 4}, "hqq, 4 bits, gemm"),
    ],
)
def test_another_layout_is_refused(quant: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=rf"needs GPTQ in 2, 4 or 8 bits or AWQ gemm in 4; found {found}$"):
        matrix({}, quant)
