"""What the transformers backend knows of decoders."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.transformers import TransformersBackend
from selector.model.quant.format import QuantFormat
from tests.selector.conftest import spec

BACKEND = TransformersBackend()


@pytest.mark.parametrize(
    ("model_type", "config", "reasons"),
    [
        ("bert", {"is_decoder": True}, []),
        ("bert", {}, ["needs is_decoder true, without which BertLMHeadModel attends to later tokens; found false"]),
        ("llama", {}, []),
        ("bart", {}, []),  # its decoder is built alone, and is causal whatever the config says
    ],
)
def test_an_encoder_runs_where_its_config_makes_it_a_decoder(
    model_type: str, config: dict[str, Any], reasons: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = spec(architecture="BertLMHeadModel", model_type=model_type, folder=tmp_path)
    assert BACKEND.fits(model, BACKEND.variant("eager")) == reasons


@pytest.mark.parametrize(
    ("architecture", "sizes", "reasons"),
    [
        ("Qwen3ForCausalLM", {"head_dim": 128}, []),
        ("Qwen3ForCausalLM", {"head_dim": 64},
         ["needs head_dim 128, which it takes for every .gguf file of its kind; found 64"]),
        ("Qwen3MoeForCausalLM", {"head_dim": 64, "expert_intermediate_size": 768}, []),
        ("Qwen3MoeForCausalLM", {"expert_intermediate_size": 1536},
         ["needs expert_intermediate_size 768, which it takes for every .gguf file of its kind; found 1536"]),
        ("LlamaForCausalLM", {"head_dim": 64}, []),
        ("Gemma2ForCausalLM", {"head_dim": 256}, []),
        ("Gemma2ForCausalLM", {"head_dim": 128},
         ["needs heads of 256, by which it scales attention in every .gguf file; found 128"]),
    ],
)  # fmt: skip
def test_sizes_that_it_does_not_read_of_a_gguf_file(
    architecture: str, sizes: dict[str, int], reasons: list[str]
) -> None:
    model = spec(architecture=architecture, quant=QuantFormat(method="gguf"), **sizes)
    assert BACKEND.fits(model, BACKEND.variant("sdpa")) == reasons


@pytest.mark.parametrize(
    ("config", "variant", "reasons"),
    [
        ({"alibi": True}, "eager",
         ["needs scaled_dot_product_attention for Falcon's ALiBi, which eager attention adds twice; found eager"]),
        ({"alibi": True}, "sdpa", []),
        ({"alibi": False}, "eager", []),
    ],
)  # fmt: skip
def test_alibi_that_eager_attention_adds_twice(
    config: dict[str, Any], variant: str, reasons: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = spec(architecture="FalconForCausalLM", model_type="falcon", folder=tmp_path)
    assert BACKEND.fits(model, BACKEND.variant(variant)) == reasons


def test_fp8_without_blocks_runs_on_no_cpu() -> None:
    shapes = {
        kind: fact.block_shapes for fact in BACKEND.facts.quants if fact.method == "fp8" for kind in fact.devices or ()
    }
    assert shapes == {"cpu": frozenset({(128, 128)}), "cuda": None, "rocm": None}
