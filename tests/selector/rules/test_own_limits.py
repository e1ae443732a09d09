"""What the backends themselves read of a config.json: any value there is a reason or none, and never a crash."""

import json
from pathlib import Path

import pytest

from calibration.registry import find
from selector.demand.demand import Demand
from selector.rules.judge import judge
from tests.selector.conftest import host, spec


def own_reasons(backend: str, architecture: str, folder: Path) -> list[str]:
    """What the rule `own_limits` says of the backend's first variant."""
    model_type = {"Gemma2ForCausalLM": "gemma2"}.get(architecture, "llama")
    model = spec(architecture=architecture, model_type=model_type, folder=folder)
    verdict = judge(model, host(), Demand(), {backend: find(backend)})[0]
    return [reason.text for reason in verdict.reasons if reason.rule == "own_limits"]


@pytest.mark.parametrize(
    ("backend", "architecture", "field", "value", "reason"),
    [
        ("llamacpp", "Gemma2ForCausalLM", "query_pre_attn_scalar", "x",
         "needs a number as query_pre_attn_scalar in config.json; found 'x'"),
        ("llamacpp", "OlmoeForCausalLM", "norm_topk_prob", "yes",
         "needs true or false as norm_topk_prob in config.json; found 'yes'"),
        ("ctranslate2", "Gemma2ForCausalLM", "final_logit_softcapping", {},
         "needs a number as final_logit_softcapping in config.json; found {}"),
        ("turbomind", "Qwen3MoeForCausalLM", "decoder_sparse_step", "two",
         "needs a whole number as decoder_sparse_step in config.json; found 'two'"),
        ("turbomind", "Qwen2VLForConditionalGeneration", "vision_config", {"num_heads": 10**20, "embed_dim": 64},
         f"needs a number of a model's size as vision_config.num_heads in config.json; found {10**20}"),
        ("turbomind", "InternVLChatModel", "llm_config", {"architectures": [["LlamaForCausalLM"]]},
         "needs a list of short texts as llm_config.architectures in config.json; found [['LlamaForCausalLM']]"),
        ("turbomind", "LlamaForCausalLM", "rope_scaling", {"type": "yarn", "factor": "four"},
         "needs a number as rope_scaling.factor in config.json; found 'four'"),
        ("pytorch", "LlamaForCausalLM", "text_config", [1],
         "needs an object as text_config in config.json; found [1]"),
    ],
)  # fmt: skip
def test_an_absurd_value_is_a_reason(
    backend: str, architecture: str, field: str, value: object, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({field: value}))
    assert reason in own_reasons(backend, architecture, tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", "null", "[" * 100_000])
def test_a_config_that_is_no_object_is_a_reason(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    [reason] = own_reasons("turbomind", "LlamaForCausalLM", tmp_path)
    assert reason.startswith("needs a config.json that is ")


def test_a_folder_without_config_has_no_limits(tmp_path: Path) -> None:
    assert own_reasons("turbomind", "LlamaForCausalLM", tmp_path) == []
