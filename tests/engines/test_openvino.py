"""openvino against transformers in fp32: architectures, both schedulers, windows, what its facts refuse."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models

from calibration.backend import Engine
from calibration.registry import find
from selector.model import ModelSpec

pytestmark = pytest.mark.engine
OPENVINO = find("openvino")

EVERYWHERE = ("llama", "llama3", "llama-linear", "mistral", "qwen2", "qwen3", "gemma", "granite", "phi3", "gpt2")
MASKED = ("mistral-window", "qwen2-window", "gemma2", "gemma3")
"""Whose masks paged attention does not know."""
FP16 = 0.05
"""Weights in fp16 and keys and values, too: scores deviate by 2."""


def loaded(variant: str, folder: Path) -> Engine:
    """Variants of one precision share a conversion, as in the store."""
    asked = tiny_models.job(folder, OPENVINO, variant)
    artifact = folder.parent / f"{folder.name}-openvino-{asked.variant.prepared_as}"
    asked = tiny_models.job(folder, OPENVINO, variant, artifact)
    if not artifact.exists():
        artifact.mkdir()
        OPENVINO.prepare(asked, artifact, print)
    return OPENVINO.load(asked)


@pytest.mark.parametrize("name", [*EVERYWHERE, *MASKED])
def test_stateful_graph_is_right(name: str, tiny: Callable[..., Path], reference: Callable[..., Engine]) -> None:
    length = 40 if name in MASKED else tiny_models.PROMPT_TOKENS
    assert tiny_models.unlike(loaded("fp16-sdpa", tiny(name)), reference(name), length=length, within=FP16) == []


@pytest.mark.parametrize("name", EVERYWHERE)
def test_paged_attention_is_right(name: str, tiny: Callable[..., Path], reference: Callable[..., Engine]) -> None:
    asked = tiny_models.asked_prompts()
    made = loaded("fp16-pa", tiny(name)).generate(asked, tiny_models.NEW_TOKENS)
    assert made.tokens == reference(name).generate(asked, tiny_models.NEW_TOKENS).tokens
    assert all(list(row) == sorted(row) and row[0] > 0 for row in made.arrivals)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_configs_as_transformers_5_writes_them(
    name: str, tiny: Callable[..., Path], reference: Callable[..., Engine]
) -> None:
    engine = loaded("fp16-sdpa", tiny(name, "transformers-5"))
    assert tiny_models.unlike(engine, reference(name, "transformers-5"), within=FP16) == []


@pytest.mark.parametrize(("variant", "least"), [("int8-sdpa", 0.99), ("int4-sdpa", 0.7)])
def test_lossy_variants_are_near(
    variant: str, least: float, tiny: Callable[..., Path], reference: Callable[..., Engine]
) -> None:
    import numpy as np

    prompt = tiny_models.asked_prompts()[0]
    right = tiny_models.rows(reference("llama").score(prompt, [5, 6, 7])).ravel()
    found = tiny_models.rows(loaded(variant, tiny("llama")).score(prompt, [5, 6, 7])).ravel()
    assert least < np.corrcoef(right, found)[0, 1] < 0.999999


@pytest.mark.parametrize("name", MASKED)
def test_paged_attention_is_refused_where_the_mask_is_not_causal(name: str, tiny: Callable[..., Path]) -> None:
    model = ModelSpec.read(str(tiny(name)))
    told = OPENVINO.fits(model, OPENVINO.variant("fp16-pa"))
    assert told
    assert all("paged attention" in reason for reason in told)
    assert OPENVINO.fits(model, OPENVINO.variant("fp16-sdpa")) == []


def test_experts_are_refused(tiny: Callable[..., Path]) -> None:
    assert "Qwen3MoeForCausalLM" not in (OPENVINO.facts.architectures or ())
    with pytest.raises(Exception, match="histc"):
        loaded("fp16-sdpa", tiny("qwen3-moe"))
