"""The llama.cpp backend on small converted models; and that what its rules refuse computes something else."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.backend import Engine
from calibration.backends.llamacpp.adapter import LlamaCppBackend
from calibration.workload import DEFAULT
from selector.demand.demand import Demand
from selector.model.spec import ModelSpec
from tests.engines import tiny_models
from tests.engines.printed_commands import deployed
from tests.engines.tiny_configs import VOCAB
from tests.engines.tiny_models import NEW_TOKENS, asked_prompts, rows, unlike

BACKEND = LlamaCppBackend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
Reference = Callable[..., Engine]


GELU = 0.01
"""ggml looks GELU up in a table of float16."""


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("llama", 1e-4),
        ("llama3", 1e-4),
        ("llama-linear", 1e-4),
        ("llama-wide-heads", 1e-4),
        ("llama-bf16", 1e-4),
        ("mistral", 1e-4),
        ("mixtral", 1e-4),
        ("qwen2", 1e-4),
        ("qwen3", 1e-4),
        ("qwen2-moe", 1e-4),
        ("qwen3-moe", 1e-4),
        ("granite", 1e-4),
        ("phi3", 1e-4),
        ("olmo2", 1e-4),
        ("cohere2", 1e-4),
        ("mamba", 1e-4),
        ("gemma", GELU),
        ("gemma2-theta", GELU),
        ("gemma3-period", GELU),
        ("gpt2", GELU),
    ],
)
def test_f32_is_transformers_in_fp32(name: str, within: float, tiny: Folder, normalised: Reference) -> None:
    engine = tiny_models.load(BACKEND, "f32", tiny(name))
    assert unlike(engine, normalised(name), within=within) == []
    engine.close()


@pytest.mark.parametrize("name", ["llama-tied", "llama3", "qwen3-moe", "granite"])
def test_of_a_folder_that_transformers_5_wrote_too(name: str, tiny: Folder, normalised: Reference) -> None:
    engine = tiny_models.load(BACKEND, "f32", tiny(name, "transformers-5"))
    assert unlike(engine, normalised(name, "transformers-5")) == []
    engine.close()


@pytest.mark.parametrize("variant", ["f16", "bf16"])
def test_16_bit_files_are_near(variant: str, tiny: Folder, normalised: Reference) -> None:
    engine = tiny_models.load(BACKEND, variant, tiny("llama-bf16"))
    found = unlike(engine, normalised("llama-bf16"), within=0.3)
    assert [finding for finding in found if finding != "greedy tokens"] == []
    engine.close()


@pytest.mark.parametrize(("name", "variant", "divergence"), [
    ("llama", "q8_0", 0.01),
    ("llama", "q4_0", 1.0),
    ("llama", "q4_k_m", 0.3),
    ("llama3", "q4_k_m", 1.5),
    ("qwen3-moe", "q4_k_m", 0.3),
])  # fmt: skip
def test_quantised_files_are_near_but_not_the_same(
    name: str, variant: str, divergence: float, tiny: Folder, normalised: Reference
) -> None:
    import numpy as np

    engine = tiny_models.load(BACKEND, variant, tiny(name))
    assert BACKEND.variant(variant).lossy and "scores" in unlike(engine, normalised(name))
    prompt, continuation = asked_prompts()[0], (5, 6, 7)
    ours, theirs = (rows(e.score(prompt, continuation)) for e in (engine, normalised(name)))
    assert 0 < (np.exp(theirs) * (theirs - ours)).sum(axis=-1).mean() < divergence
    engine.close()


def test_a_path_through_the_token_that_ends_sequences(tiny: Folder, reference: Reference) -> None:
    """Neither avoided, nor the end of it, and of one prompt alone just so."""
    expected = reference("llama-eos").generate(asked_prompts(), NEW_TOKENS).tokens
    assert [45 in path for path in expected] == [False, True, False]
    engine = tiny_models.load(BACKEND, "f32", tiny("llama-eos"))
    made = engine.generate(asked_prompts(), NEW_TOKENS)
    assert made.tokens == expected and [len(row) for row in made.arrivals] == [NEW_TOKENS] * 3
    assert engine.generate(asked_prompts()[1:2], NEW_TOKENS).tokens == expected[1:2]
    assert engine.generate(asked_prompts(), 1).tokens == tuple(path[:1] for path in expected)
    engine.close()


def test_a_prompt_that_fills_the_context(tiny: Folder, reference: Reference) -> None:
    asked = asked_prompts(128 - NEW_TOKENS)
    engine = tiny_models.load(BACKEND, "f32", tiny("llama"))
    assert engine.generate(asked, NEW_TOKENS).tokens == reference("llama").generate(asked, NEW_TOKENS).tokens
    engine.close()


def test_a_longer_prompt_is_refused_with_the_servers_reason(tiny: Folder) -> None:
    engine = tiny_models.load(BACKEND, "f32", tiny("llama"))
    with pytest.raises(RuntimeError, match=r"^llama-server: request \(300 tokens\) exceeds the available context size"):
        engine.generate([[5] * 300], 1)
    engine.close()


def test_nothing_is_kept_from_one_prompt_to_the_next(tiny: Folder) -> None:
    """Scoring reuses a slot's cache on purpose; what comes after must not see it."""
    engine = tiny_models.load(BACKEND, "f32", tiny("llama"))
    first, second, _ = asked_prompts()
    alone = rows(engine.score(second, (5, 6)))
    engine.score([*first[:12], *second[12:]], (7, 8))
    assert (rows(engine.score(second, (5, 6))) == alone).all()
    made = engine.generate([first, second], NEW_TOKENS).tokens
    engine.score(first, (9,))
    assert engine.generate([first, second], NEW_TOKENS).tokens == made
    engine.close()


def test_arrivals_lie_within_the_call(tiny: Folder) -> None:
    engine = tiny_models.load(BACKEND, "f32", tiny("llama"))
    began = time.perf_counter()
    made = engine.generate(asked_prompts(), NEW_TOKENS)
    took = time.perf_counter() - began
    assert all(0 < row[0] < row[1] < row[-1] <= took for row in made.arrivals)
    engine.close()


def test_scores_are_of_the_whole_vocabulary(tiny: Folder) -> None:
    import numpy as np

    engine = tiny_models.load(BACKEND, "f32", tiny("llama"))
    scores = rows(engine.score(asked_prompts()[0], (5, 6)))
    assert (scores.shape, str(scores.dtype)) == ((3, VOCAB), "float32")
    assert np.allclose(np.exp(scores).sum(axis=-1), 1.0, atol=1e-4)
    engine.close()


@pytest.mark.parametrize("name", ["mistral-window", "qwen2-window"])
def test_a_window_that_is_not_honoured(name: str, tiny: Folder, normalised: Reference) -> None:
    windowed = BACKEND.facts.windowed_architectures
    assert windowed is not None and ModelSpec.read(str(tiny(name))).architecture not in windowed
    engine = tiny_models.load(BACKEND, "f32", tiny(name))
    assert "scores" in unlike(engine, normalised(name), within=1.0)
    assert unlike(engine, normalised(name), length=8) == []
    engine.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemma-theta", "needs rope_theta 10000, which llama.cpp takes for GemmaForCausalLM; found 2345"),
        ("gemma2", "needs rope_theta 10000, which llama.cpp takes for Gemma2ForCausalLM; found 2345"),
        ("gemma3", "needs full attention in every layer whose number 6 divides; found other layers"),
        (
            "qwen2-moe-normed",
            "needs norm_topk_prob False, which llama.cpp takes for Qwen2MoeForCausalLM; found True",
        ),
    ],
)
def test_what_is_refused_computes_something_else(name: str, reason: str, tiny: Folder, normalised: Reference) -> None:
    assert BACKEND.fits(ModelSpec.read(str(tiny(name))), BACKEND.variant("f32")) == [reason]
    engine = tiny_models.load(BACKEND, "f32", tiny(name))
    assert "scores" in unlike(engine, normalised(name), within=0.1)
    engine.close()


@pytest.mark.parametrize(
    ("name", "variant", "reasons"),
    [
        ("llama", "f32", []),
        ("llama", "q4_0", []),
        ("llama", "bf16", ["needs a bfloat16 model, or loses precision; found float32"]),
        ("llama", "f16", ["needs a 16-bit model, or loses precision; found float32"]),
        ("llama-bf16", "bf16", []),
        ("llama-bf16", "f16", []),
        ("qwen2-moe", "f32", []),
        ("qwen3-moe", "f32", []),
        ("gemma2-theta", "f32", []),
        ("gemma3-period", "f32", []),
        ("cohere2", "f32", []),
        ("gpt2", "f32", []),
    ],
)
def test_what_fits(name: str, variant: str, reasons: list[str], tiny: Folder) -> None:
    assert BACKEND.fits(ModelSpec.read(str(tiny(name))), BACKEND.variant(variant)) == reasons


def test_its_configuration_has_a_slot_for_each_sequence() -> None:
    params = BACKEND.engine_config(BACKEND.variant("gguf"), deployed("/c/d.gguf"))
    assert (params.model.path, params.n_parallel, params.n_ctx) == ("/c/d.gguf", 1, 768)
    four = deployed("/c", demand=Demand(workloads=(replace(DEFAULT, batch=4),)))
    assert BACKEND.engine_config(BACKEND.variant("q8_0"), four).n_ctx == 4 * 768
