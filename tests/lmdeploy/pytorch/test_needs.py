"""Fields of config.json that the PyTorch engine itself reads: with them it builds the model, without one it fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import judge

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

WHOLE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "a type without a class",
    "torch_dtype": "float16",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}


def build(folder: Path) -> None:
    """What the engine does with a configuration before it reads any weight."""
    import torch
    from lmdeploy.pytorch.config import ModelConfig
    from lmdeploy.pytorch.models.patch import BuildModelContext, build_patched_model

    config = ModelConfig.from_pretrained(str(folder), device_type="cuda")
    context = BuildModelContext(quant_config=config.quant_config, tie_word_embeddings=config.tie_word_embeddings)
    build_patched_model(config, device=torch.device("meta"), build_model_ctx=context)


@pytest.mark.parametrize(
    ("changes", "raised"),
    [
        ({}, ""),
        ({"bos_token_id": ...}, "no attribute 'bos_token_id'"),
        ({"eos_token_id": ...}, "no attribute 'eos_token_id'"),
        ({"attention_bias": ...}, "no attribute 'attention_bias'"),
        ({"rope_scaling": None}, "no attribute 'get'"),
    ],
    ids=["whole", "bos", "eos", "bias", "null rotation"],
)
def test_rules_and_engine_agree_on_fields(
    changes: dict[str, Any], raised: str, tmp_path: Path, gpu_host: Callable[..., HostSpec]
) -> None:
    from tests.lmdeploy.stand_ins import lmdeploy_cpu

    lmdeploy_cpu.install("torch")
    config = {name: value for name, value in {**WHOLE, **changes}.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    verdicts = judge(ModelSpec.read(str(tmp_path)), gpu_host((9, 0)), Demand())
    [rules] = [[r.rule for r in v.reasons] for v in verdicts if v.candidate.label == "pytorch:eager"]
    assert ("config_fields" in rules) is bool(raised)
    if not raised:
        build(tmp_path)
        return
    with pytest.raises(AttributeError, match=raised):
        build(tmp_path)
