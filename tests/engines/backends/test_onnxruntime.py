"""The ONNX Runtime backend on small built graphs; and that what its facts leave out is left out for a reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Engine
from calibration.backends.onnxruntime import OnnxRuntimeBackend
from tests.engines import tiny_models
from tests.engines.printed_commands import deployed
from tests.engines.tiny_configs import VOCAB
from tests.engines.tiny_models import NEW_TOKENS, asked_prompts, rows, unlike

BACKEND = OnnxRuntimeBackend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
Reference = Callable[..., Engine]


@pytest.mark.parametrize("style", ["published", "transformers-5"])
@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "llama-tied",
        "llama3",
        "llama-wide-heads",
        "llama-bf16",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma-theta",
        "gemma2",
        "granite",
        "phi3",
    ],
)
def test_fp32_is_transformers_in_fp32(name: str, style: str, tiny: Folder, reference: Reference) -> None:
    assert unlike(tiny_models.load(BACKEND, "fp32", tiny(name, style)), reference(name, style)) == []


def test_a_sliding_window_beyond_the_capacity_and_within_the_prompt(tiny: Folder, reference: Reference) -> None:
    """gemma2's window is 64: 32 tokens in all need a larger cache, 80 reach beyond the window."""
    engine = tiny_models.load(BACKEND, "fp32", tiny("gemma2"))
    assert unlike(engine, reference("gemma2")) == []
    assert unlike(engine, reference("gemma2"), length=80) == []
    assert unlike(tiny_models.load(BACKEND, "fp32", tiny("qwen2-window")), reference("qwen2-window")) == []


def test_a_path_through_the_token_that_ends_sequences(tiny: Folder, reference: Reference) -> None:
    """The token is on the second path of the batch: neither avoided, nor the end of it, and of one alone just so."""
    expected = reference("gemma").generate(asked_prompts(), NEW_TOKENS).tokens
    assert [VOCAB - 1 in path for path in expected] == [False, True, False]
    engine = tiny_models.load(BACKEND, "fp32", tiny("gemma"))
    made = engine.generate(asked_prompts(), NEW_TOKENS)
    assert made.tokens == expected
    assert len(set(made.arrivals)) == 1 and len(set(made.arrivals[0])) == NEW_TOKENS
    assert engine.generate(asked_prompts()[1:2], NEW_TOKENS).tokens == expected[1:2]


def test_linear_scaling_computes_something_else(tiny: Folder, reference: Reference) -> None:
    engine = tiny_models.load(BACKEND, "fp32", tiny("llama-linear"))
    assert "scores" in unlike(engine, reference("llama-linear"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpt2", "not currently supported"), ("qwen3-moe", "not currently supported"), ("gemma3", "rope_type")],
)
def test_what_the_facts_leave_out_does_not_build(name: str, message: str, tiny: Folder) -> None:
    with pytest.raises((NotImplementedError, KeyError), match=message):
        tiny_models.load(BACKEND, "fp32", tiny(name))


def test_a_prompt_longer_than_mistrals_window_does_not_run(tiny: Folder) -> None:
    engine = tiny_models.load(BACKEND, "fp32", tiny("mistral-window"))
    with pytest.raises(RuntimeError, match="total_sequence_length"):
        engine.generate(asked_prompts(40), NEW_TOKENS)


def test_int8_is_near_but_not_the_same(tiny: Folder, reference: Reference) -> None:
    engine = tiny_models.load(BACKEND, "int8", tiny("llama"))
    assert [finding for finding in unlike(engine, reference("llama")) if finding != "greedy tokens"] == ["scores"]
    assert "scores" not in unlike(engine, reference("llama"), within=1.0)


def test_int4_is_farther_than_int8_and_still_the_model(tiny: Folder, reference: Reference) -> None:
    """0.34 of the logits' norm, where int8 loses a tenth of that and other weights lose all of it."""
    import numpy as np

    asked = asked_prompts()[0]
    continuation = reference("llama").generate([asked], NEW_TOKENS).tokens[0]
    exact = rows(reference("llama").score(asked, continuation))
    off = {}
    for variant in ("int8", "int4"):
        scores = rows(tiny_models.load(BACKEND, variant, tiny("llama")).score(asked, continuation))
        off[variant] = float(np.linalg.norm(scores - exact) / np.linalg.norm(exact))
    other = rows(reference("llama-tied").score(asked, continuation))
    assert 0 < 2 * off["int8"] < off["int4"] < 0.5 < float(np.linalg.norm(other - exact) / np.linalg.norm(exact))


def test_int4_weights_are_shared_by_blocks_of_32_and_multiplied_in_int8(tiny: Folder) -> None:
    import onnx

    tiny_models.load(BACKEND, "int4", tiny("llama"))
    folder = tiny("llama").parent / "llama-published-onnxruntime-int4"
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    found = [
        {a.name: a.i for a in node.attribute if a.name in {"accuracy_level", "bits", "block_size"}}
        for node in graph.node
        if node.op_type == "MatMulNBits"
    ]
    assert found == [{"accuracy_level": 4, "bits": 4, "block_size": 32}] * 16


def test_arrivals_are_one_a_token_and_shared_by_the_batch(tiny: Folder) -> None:
    made = tiny_models.load(BACKEND, "fp32", tiny("llama")).generate(asked_prompts(), NEW_TOKENS)
    assert len(set(made.arrivals)) == 1 and len(set(made.arrivals[0])) == NEW_TOKENS


def test_scores_are_float32_and_of_the_whole_vocabulary(tiny: Folder) -> None:
    scores = rows(tiny_models.load(BACKEND, "fp32", tiny("llama")).score(asked_prompts()[0], (5, 6)))
    assert (scores.shape, str(scores.dtype)) == ((3, VOCAB), "float32")


def test_only_the_last_row_of_a_prompt_is_scored(tiny: Folder) -> None:
    """Built without prune_lm_head the head would run over the whole prompt."""
    import numpy as np

    engine: Any = tiny_models.load(BACKEND, "fp32", tiny("llama"))
    generator = engine.graph.generator(length=32)
    generator.append_tokens(np.array(asked_prompts()[:1], dtype=np.int32))
    assert generator.get_output("logits").shape == (1, 1, VOCAB)


def test_its_configuration_and_that_it_has_no_command() -> None:
    assert BACKEND.engine_config(BACKEND.variant("fp32"), deployed("gpt2")) == {"search": {"max_length": 640}}
    assert BACKEND.command(BACKEND.variant("fp32"), deployed("gpt2")) is None
