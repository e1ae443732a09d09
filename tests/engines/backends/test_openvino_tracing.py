"""What stands in for transformers' own attention, masks and experts while a model is traced, beside those."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calibration.backends.openvino.attention import traceable_attention
from calibration.backends.openvino.experts import apply_experts
from calibration.backends.openvino.positions import give_positions
from calibration.backends.openvino.states import states_of
from tests.engines import tiny_models

pytestmark = pytest.mark.engine

BATCH, PAST, NEW = 2, 5, 3
WHOLE = PAST + NEW


def mask_functions() -> dict[str, Any]:
    import torch
    from transformers import masking_utils

    return {
        "causal": masking_utils.causal_mask_function,
        "window": masking_utils.sliding_window_causal_mask_function(4),
        "chunks": masking_utils.chunked_causal_mask_function(3, torch.zeros(BATCH, dtype=torch.int)),
        "both ways": masking_utils.bidirectional_mask_function,
    }


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["causal", "window", "chunks", "both ways"])
def test_masks_are_those_of_eager_attention(kind: str, padded: bool, tiny: Callable[..., Path]) -> None:
    import torch
    from transformers import masking_utils

    keys = torch.ones(BATCH, WHOLE, dtype=torch.bool)
    keys[1, :2] = not padded
    asked = {
        "batch_size": BATCH,
        "q_length": NEW,
        "kv_length": WHOLE,
        "q_offset": PAST,
        "mask_function": mask_functions()[kind],
        "attention_mask": keys,
    }
    expected = masking_utils.eager_mask(**asked)
    with traceable_attention(model_of(tiny("llama"))):
        made = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["openvino"](**asked)
    assert tuple(made.shape) == (BATCH, 1, NEW, WHOLE)
    assert torch.equal(made, expected)


def test_the_registry_is_left_as_it_was(tiny: Callable[..., Path]) -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask, sdpa_mask

    model = model_of(tiny("llama"))
    with pytest.raises(ZeroDivisionError), traceable_attention(model):  # noqa: PT012  what is looked at while it lasts
        assert model.config._attn_implementation == "openvino"
        assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is ALL_MASK_ATTENTION_FUNCTIONS["openvino"] is not sdpa_mask
        raise ZeroDivisionError
    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask
    assert ALL_MASK_ATTENTION_FUNCTIONS["eager"] is eager_mask


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt-oss", "gptj"])
def test_attention_is_the_models_own(name: str, tiny: Callable[..., Path]) -> None:
    """By scaled_dot_product_attention, with soft caps, with sinks, and where the class writes it out."""
    import torch

    ids = torch.tensor(tiny_models.asked_prompts(40))
    keys = torch.ones_like(ids)
    keys[0, :3] = 0
    model = model_of(tiny(name))
    with torch.no_grad():
        expected = model(ids, attention_mask=keys).logits
        with traceable_attention(model):
            made = model(ids, attention_mask=keys).logits
    # Of a padded position that sees no key only its own answer depends on how the least number is written.
    assert torch.allclose(made[:, 3:], expected[:, 3:], atol=1e-4)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("qwen3_moe", "Qwen3MoeExperts"),
        ("gpt_oss", "GptOssExperts"),
        ("nemotron_h", "NemotronHExperts"),
        ("aria", "AriaExperts"),
    ],
)
def test_experts_are_the_models_own(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a gate; with biases and a clamped gate of interleaved weights; without a gate; with transposed weights."""
    import importlib

    import torch

    # OpenVINO puts a stand-in into its place while it traces 16-bit weights, and may leave it there after an export.
    monkeypatch.setattr(torch, "bmm", torch._C._VariableFunctions.bmm)
    torch.manual_seed(0)
    made = vars(importlib.import_module(f"transformers.models.{family}.modeling_{family}"))[name](CONFIG)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.2)
        hidden, weights = torch.randn(7, 64), torch.rand(7, 2)
        chosen = torch.stack([torch.randperm(8)[:2] for _ in range(7)])
        expected = made(hidden, chosen, weights)
        assert expected.std() > 0.1
        assert torch.allclose(apply_experts(made, hidden, chosen, weights), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "parts", "taken"),
    [
        ("llama", {}, True),
        ("bart", {}, False),
        ("moss_transcribe_diarize", {"text_config": {"model_type": "qwen3"}, "audio_config": {}}, True),
    ],
)
def test_positions_are_told_to_what_takes_them(model_type: str, parts: dict[str, Any], taken: bool) -> None:
    """By its forward, by its embedding of positions, or by the language model to which it hands them on."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **parts)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config)
    ids, positions = torch.ones(1, 3, dtype=torch.long), torch.arange(3)[None]
    told = give_positions(made)(ids, positions)
    assert (told.get("position_ids") is positions) is taken
    assert set(told) <= {"position_ids"}


@pytest.mark.parametrize("last", ["linear_attention", "full_attention"])
def test_a_layer_with_a_recurrent_state_is_never_left_out(last: str) -> None:
    """Not even at the end, where layers that share the keys of earlier ones are."""
    from transformers import AutoModelForCausalLM, Qwen3NextConfig

    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "vocab_size": 64, "head_dim": 8}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 0}
    sizes |= {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    sizes |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_hidden_layers": 2}
    config = Qwen3NextConfig(**sizes, layer_types=["full_attention", last])
    made = AutoModelForCausalLM.from_config(config).eval()
    if last == "full_attention":
        assert [state.layer for state in states_of(made)] == [0, 0, 1, 1]
        return
    with pytest.raises(ValueError, match="keeps another state than keys, values and inputs of convolutions"):
        states_of(made)


CONFIG = SimpleNamespace(
    _experts_implementation="eager",
    num_experts=8,
    num_local_experts=8,
    n_routed_experts=8,
    moe_num_experts=8,
    hidden_size=64,
    intermediate_size=32,
    moe_intermediate_size=32,
    moe_latent_size=None,
    hidden_act="silu",
    mlp_hidden_act="relu2",
    mlp_bias=False,
    swiglu_alpha=1.702,
    swiglu_limit=7.0,
)


def model_of(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()
