"""The PyTorch engine's rules beside LMDeploy's own tables and checks, and beside what it really computes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.pytorch.adapter import FACTS, PyTorch
from calibration.worker.prompts import prompts
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import judge
from tests.lmdeploy.conftest import Checkpoints
from tests.lmdeploy.jobs import a_job
from tests.lmdeploy.tiny_checkpoints import FORMATS, WIDE

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

VOCAB = 320
DRAFTS_AND_REWARDS = {
    "DFlashDraftModel",
    "DeepseekMTPModel",
    "DeepseekV32MTPModel",
    "Eagle3DeepseekV2ForCausalLM",
    "Eagle3LlamaForCausalLM",
    "EagleLlamaForCausalLM",
    "Glm4MoeMTPModel",
    "GlmMoeDsaMTPModel",
    "HYV3MTP",
    "InternLM2ForRewardModel",
    "Qwen2ForRewardModel",
    "Qwen3_5MTPModel",
}
"""They generate no text of their own."""

KIMI = "KimiK25ForConditionalGeneration or Kimi_K25ForConditionalGeneration"

Reasons = Callable[..., list[str]]


@pytest.fixture(scope="module")
def standins() -> None:
    from tests.lmdeploy.stand_ins import lmdeploy_cpu

    lmdeploy_cpu.install("torch")


@pytest.fixture
def reasons(gpu_host: Callable[..., HostSpec]) -> Reasons:
    """reasons(folder, prompt_tokens, capability) -> why the `eager` variant is refused."""

    def explain(folder: Path, prompt_tokens: int = 16, capability: tuple[int, int] = (9, 0)) -> list[str]:
        backend = PyTorch()
        demand = Demand.of(workload=Workload(prompt_tokens=prompt_tokens, output_tokens=8))
        verdicts = judge(ModelSpec.read(str(folder)), gpu_host(capability), demand, {backend.name: backend})
        (verdict,) = (v for v in verdicts if v.candidate.variant == "eager")
        return [reason.text for reason in verdict.reasons]

    return explain


def greedy_by_both(folder: Path, length: int, new: int = 8) -> tuple[Any, Any]:
    """Tokens of the engine and of transformers, float32."""
    import torch
    from transformers import AutoModelForCausalLM

    prompt = prompts("rules", VOCAB, length, 1)[0]
    backend = PyTorch()
    engine = backend.load(a_job(backend, folder, "eager"))
    found = engine.generate([prompt], new).tokens[0]
    engine.close()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(new):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return found, tuple(ids[length:])


def test_facts_are_the_engines_own_tables() -> None:
    from lmdeploy.pytorch.models.module_map import MODULE_MAP, REMOVED_MODEL_MAP

    assert FACTS.architectures is not None
    assert FACTS.architectures | DRAFTS_AND_REWARDS == set(MODULE_MAP)
    assert set(FACTS.removed_architectures) == set(REMOVED_MODEL_MAP)


@pytest.mark.parametrize(
    ("quant", "taken", "refused"),
    [
        ("awq-g128", True, []),
        ("awq-g64", True, []),
        ("awq-g32", True, []),
        # The version is never read, and the weights of another one are packed in another order.
        ("awq-gemv", True, ["needs awq weights packed for gemm; found gemv"]),
        ("gptq-g128", False, ["gptq-4bit-g128"]),
        ("gptq-8bit", False, ["gptq-8bit-g128"]),
        ("fp8-blocks", True, []),
        ("fp8-tensor", True, []),
        # Read by the configuration, and then there is no dense layer for it.
        (
            "compressed-g32",
            True,
            [
                f"needs compressed-tensors with {KIMI}; found Qwen2ForCausalLM",
            ],
        ),
        (
            "compressed-g128",
            False,
            [
                f"needs compressed-tensors with group size 32, {KIMI}; found group size 128, Qwen2ForCausalLM",
            ],
        ),
        ("mxfp4", False, ["mxfp4"]),
        ("bitsandbytes", False, ["bitsandbytes-4bit-fp4"]),
        ("smooth_quant", True, []),
    ],
)
def test_formats(quant: str, taken: bool, refused: list[str], checkpoint: Checkpoints, reasons: Reasons) -> None:
    """Beside QuantizationConfig.from_config, which says less than the layers that are built later."""
    from lmdeploy.pytorch.config import QuantizationConfig
    from transformers import PretrainedConfig

    try:
        QuantizationConfig.from_config(PretrainedConfig.from_dict({"quantization_config": dict(FORMATS[quant][0])}))
        accepted = True
    except (TypeError, ValueError):
        accepted = False
    assert accepted is taken
    folder = checkpoint("qwen2", dtype="float16", quant=quant, **WIDE)
    known = "needs weights without quantization or in awq, fp8, compressed-tensors or smooth_quant; found "
    assert reasons(folder) == [text if text.startswith("needs") else known + text for text in refused]


def test_awq_of_experts_ends_while_loading(checkpoint: Checkpoints, reasons: Reasons, standins: None) -> None:
    folder = checkpoint("qwen3moe", dtype="float16", quant="awq-g128", **WIDE)
    assert "needs a dense model for awq; found 8 experts" in reasons(folder)
    backend = PyTorch()
    with pytest.raises(RuntimeError, match="Unsupported quant method: awq"):
        backend.load(a_job(backend, folder, "eager", dtype="float16"))


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_awq_of_narrow_kv_heads_ends_while_loading(
    kind: str, checkpoint: Checkpoints, reasons: Reasons, standins: None
) -> None:
    backend = PyTorch()
    wide = checkpoint(kind, dtype="float16", quant="awq-g128", **WIDE)
    assert reasons(wide) == []
    engine = backend.load(a_job(backend, wide, "eager", dtype="float16"))
    assert len(engine.generate([[7, 8, 9]], 3).tokens[0]) == 3
    engine.close()
    narrow = {**WIDE, "head_dim": 64, "num_attention_heads": 8, "num_key_value_heads": 1}
    folder = checkpoint(kind, dtype="float16", quant="awq-g128", **narrow)
    assert reasons(folder) == ["needs kv heads x head_dim divisible by 128 for awq; found 64"]
    with pytest.raises(AssertionError):
        backend.load(a_job(backend, folder, "eager", dtype="float16"))


def test_untied_gemma_is_wrong_without_a_word(checkpoint: Checkpoints, reasons: Reasons, standins: None) -> None:
    tied = checkpoint("gemma2")
    assert reasons(tied) == []
    untied = checkpoint("gemma2", tie_word_embeddings=False)
    assert reasons(untied) == ["needs Gemma with tied embeddings; found an lm_head of its own, which it drops"]
    for folder, equal in ((tied, True), (untied, False)):
        found, right = greedy_by_both(folder, 20)
        assert (found == right) is equal


def test_a_window_is_right_inside_and_wrong_beyond(checkpoint: Checkpoints, reasons: Reasons, standins: None) -> None:
    folder = checkpoint("mistral", sliding_window=32)
    assert reasons(folder, 24) == []
    assert reasons(folder, 100) == [
        "needs at most 32 tokens a sequence, since it does not honour the sliding window; found 108 (pp100:tg8:b1)"
    ]
    inside, right = greedy_by_both(folder, 24)
    assert inside == right
    beyond, right = greedy_by_both(folder, 100)
    assert beyond != right


def test_the_name_in_auto_map_comes_first(checkpoint: Checkpoints, tmp_path: Path, standins: None) -> None:
    from lmdeploy.pytorch.models.module_map import MODULE_MAP
    from lmdeploy.pytorch.models.patch import _get_model_class
    from transformers import PretrainedConfig

    config = PretrainedConfig.from_dict(
        {
            "architectures": ["Qwen2ForCausalLM"],
            "auto_map": {"AutoModelForCausalLM": "modeling.LlamaForCausalLM"},
        }
    )
    assert FACTS.architectures_from_auto_map
    assert _get_model_class(config, MODULE_MAP).__name__ == "LlamaForCausalLM"
    raw = json.loads((checkpoint("qwen2") / "config.json").read_text())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw | {"auto_map": {"AutoModelForCausalLM": "m.Removed"}}))
    assert ModelSpec.read(str(folder)).auto_architecture == "Removed"
