"""openvino against transformers in fp32: architectures, both schedulers, windows, what its facts refuse."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.backend import Engine, Job
from calibration.check.divergence import distances
from calibration.registry import find
from selector.model.spec import ModelSpec
from tests.engines import tiny_models

pytestmark = pytest.mark.engine
OPENVINO = find("openvino")

EXPERTS = ("mixtral", "qwen2-moe", "qwen2-moe-normed", "qwen3-moe", "granite-moe", "glm4-moe")
EVERYWHERE = (
    "llama", "llama3", "llama-linear", "mistral", "qwen2", "qwen3", "gemma", "granite", "phi3", "gpt2", "olmo2",
    "falcon", "helium", *EXPERTS,
)  # fmt: skip
NUMBERED = ("blenderbot", "camembert", "flint", "lfm2")
"""Positions that the model would count itself; sinks in a form of their own; convolutions beside attention."""
WINDOWED = ("mistral-window", "qwen2-window", "gemma3", "cohere2", "exaone4-window", "gpt-oss")
UNPAGED = ("gemma2", "gptj", "deepseek-v3", "deepseek-v32", "phi3-longrope")
"""Whose attention paged attention does not know."""
FP32 = 1e-3
FP16 = 0.05
"""Weights in fp16 and keys and values, too: scores deviate by 2."""


def loaded(variant: str, folder: Path, *, as_float32: bool = False) -> Engine:
    """Variants of one precision share a conversion, as in the store."""
    asked = tiny_models.job(folder, OPENVINO, variant)
    artifact = folder.parent / f"{folder.name}-openvino-{asked.variant.prepared_as}"
    asked = tiny_models.job(folder, OPENVINO, variant, artifact)
    if not artifact.exists():
        artifact.mkdir()
        OPENVINO.prepare(asked, artifact, print)
    return OPENVINO.load(in_float32(asked) if as_float32 else asked)


def in_float32(asked: Job) -> Job:
    """So that only weights and cache are rounded on a CPU whose bfloat16 instructions OpenVINO would compute in."""
    options = {**asked.variant.options, "INFERENCE_PRECISION_HINT": "f32"}
    return replace(asked, variant=replace(asked.variant, options=options))


@pytest.mark.parametrize("name", [*EVERYWHERE, *NUMBERED, *WINDOWED, *UNPAGED, "llama-dynamic"])
def test_stateful_graph_is_right(name: str, tiny: Callable[..., Path], reference: Callable[..., Engine]) -> None:
    length = 40 if name in {*WINDOWED, *UNPAGED} else tiny_models.PROMPT_TOKENS
    assert tiny_models.unlike(loaded("fp32-sdpa", tiny(name)), reference(name), length=length, within=FP32) == []


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "granite", "falcon"])
def test_the_head_scores_the_last_position_alone(name: str, tiny: Callable[..., Path]) -> None:
    engine = loaded("fp32-sdpa", tiny(name))
    assert engine.score([5] * 40, []) is not None
    scores = engine._request.get_tensor("logits")  # type: ignore[attr-defined]
    assert tuple(scores.shape)[:2] == (1, 1)


@pytest.mark.parametrize("name", [*EVERYWHERE, *NUMBERED, *WINDOWED])
def test_paged_attention_is_right(name: str, tiny: Callable[..., Path], reference: Callable[..., Engine]) -> None:
    """Beyond a window, too, which is shorter than the prompts."""
    asked = tiny_models.asked_prompts(40 if name in WINDOWED else tiny_models.PROMPT_TOKENS)
    made = loaded("fp32-pa", tiny(name)).generate(asked, tiny_models.NEW_TOKENS)
    assert made.tokens == reference(name).generate(asked, tiny_models.NEW_TOKENS).tokens
    assert all(list(row) == sorted(row) and row[0] > 0 for row in made.arrivals)


@pytest.mark.parametrize("variant", ["fp32-pa", "fp32-sdpa"])
def test_a_model_may_name_no_token_that_ends_an_answer(
    variant: str, tiny: Callable[..., Path], reference: Callable[..., Engine]
) -> None:
    asked = tiny_models.asked_prompts()
    made = loaded(variant, tiny("llama-endless")).generate(asked, tiny_models.NEW_TOKENS)
    assert made.tokens == reference("llama-endless").generate(asked, tiny_models.NEW_TOKENS).tokens


def test_weights_in_fp16_are_near(tiny: Callable[..., Path], reference: Callable[..., Engine]) -> None:
    engine = loaded("fp16-sdpa", tiny("llama"), as_float32=True)
    assert tiny_models.unlike(engine, reference("llama"), within=FP16) == []


@pytest.mark.parametrize("name", ["helium", "cohere2"])
def test_neighbours_are_rotated_right_far_from_the_start(
    name: str, tiny: Callable[..., Path], reference: Callable[..., Engine]
) -> None:
    """Where the CPU computes in bfloat16; angles of that precision gave 0.03 nats and more."""
    prompt = tiny_models.asked_prompts(400)[0]
    expected, found = (
        tiny_models.rows(engine.score(prompt, [5, 6, 7]))[None]
        for engine in (reference(name), loaded("fp16-sdpa", tiny(name)))
    )
    assert distances(expected, found).kl.max() < 2e-3


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_configs_as_transformers_5_writes_them(
    name: str, tiny: Callable[..., Path], reference: Callable[..., Engine]
) -> None:
    engine = loaded("fp32-sdpa", tiny(name, "transformers-5"))
    assert tiny_models.unlike(engine, reference(name, "transformers-5"), within=FP32) == []


@pytest.mark.parametrize(("variant", "least"), [("int8-sdpa", 0.99), ("int4-sdpa", 0.7)])
def test_lossy_variants_are_near(
    variant: str, least: float, tiny: Callable[..., Path], reference: Callable[..., Engine]
) -> None:
    import numpy as np

    prompt = tiny_models.asked_prompts()[0]
    right = tiny_models.rows(reference("llama").score(prompt, [5, 6, 7])).ravel()
    found = tiny_models.rows(loaded(variant, tiny("llama")).score(prompt, [5, 6, 7])).ravel()
    assert least < np.corrcoef(right, found)[0, 1] < 0.999999


@pytest.mark.parametrize("name", UNPAGED)
def test_paged_attention_is_refused_where_it_would_compute_something_else(name: str, tiny: Callable[..., Path]) -> None:
    model = ModelSpec.read(str(tiny(name)))
    told = OPENVINO.fits(model, OPENVINO.variant("fp32-pa"))
    assert told
    assert all("paged attention" in reason for reason in told)
    assert OPENVINO.fits(model, OPENVINO.variant("fp32-sdpa")) == []


def test_weights_are_held_as_they_are(tiny: Callable[..., Path]) -> None:
    wide, half = ModelSpec.read(str(tiny("llama"))), ModelSpec.read(str(tiny("llama-bf16")))
    found = {
        (model.dtype, variant): OPENVINO.fits(model, OPENVINO.variant(variant))
        for model in (wide, half)
        for variant in ("fp16-pa", "fp32-pa")
    }
    assert found == {
        ("float32", "fp16-pa"): ["needs a 16-bit model, whose weights it holds as they are; found float32"],
        ("float32", "fp32-pa"): [],
        ("bfloat16", "fp16-pa"): [],
        ("bfloat16", "fp32-pa"): ["needs a float32 model, whose weights it holds as they are; found bfloat16"],
    }


@pytest.mark.parametrize(
    ("name", "precision"),
    [("qwen3-moe", "fp16"), ("qwen3-moe", "int8"), ("qwen3-moe", "int4"), ("granite-moe", "fp32")],
)
def test_chosen_experts_alone_are_computed(name: str, precision: str, tiny: Callable[..., Path]) -> None:
    import openvino

    loaded(f"{precision}-sdpa", tiny(name))
    graph = tiny(name).parent / f"{tiny(name).name}-openvino-{precision}" / "openvino_model.xml"
    run = openvino.Core().compile_model(graph, "CPU").get_runtime_model()
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in run.get_ops()]
    # Gate, up and down projection of three layers.
    assert kinds.count("GatherMatmul") == 9


def test_paged_attention_answers_a_batch_as_each_alone(tiny: Callable[..., Path]) -> None:
    engine = loaded("fp16-pa", tiny("llama"))
    asked = tiny_models.asked_prompts()
    alone = [engine.generate([prompt], tiny_models.NEW_TOKENS).tokens[0] for prompt in asked]
    assert list(engine.generate(asked, tiny_models.NEW_TOKENS).tokens) == alone
    assert engine.score(asked[0], [5]) is None


def test_a_checkpoint_that_lacks_weights_is_refused(tiny: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny("llama"), tmp_path / "copy")
    weights = load_file(tmp_path / "copy/model.safetensors")
    del weights["model.norm.weight"], weights["lm_head.weight"]
    save_file(weights, tmp_path / "copy/model.safetensors", metadata={"format": "pt"})
    asked = tiny_models.job(tmp_path / "copy", OPENVINO, "fp32-sdpa")
    with pytest.raises(
        ValueError, match=r"^needs all weights of LlamaForCausalLM in the checkpoint; 2 are missing: lm_head\.weight$"
    ):
        OPENVINO.prepare(asked, tmp_path, print)


def test_no_token_ends_a_path(tiny: Callable[..., Path], reference: Callable[..., Engine]) -> None:
    asked = tiny_models.asked_prompts()
    expected = reference("llama-eos").generate(asked, tiny_models.NEW_TOKENS).tokens
    assert any(45 in row[:-1] for row in expected)
    for variant in ("fp32-pa", "fp32-sdpa"):
        assert loaded(variant, tiny("llama-eos")).generate(asked, tiny_models.NEW_TOKENS).tokens == expected


@pytest.mark.parametrize("variant", ["gguf-pa", "gguf-sdpa"])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen3"])
def test_a_gguf_file_is_loaded_as_it_is(
    name: str, variant: str, tiny: Callable[..., Path], reference: Callable[..., Engine]
) -> None:
    tiny_models.load(find("llamacpp"), "f16", tiny(name)).close()
    file = tiny(name).parent / f"{tiny(name).name}-llamacpp-f16" / "model.gguf"
    assert OPENVINO.fits(ModelSpec.read(str(file)), OPENVINO.variant(variant)) == []
    engine = OPENVINO.load(in_float32(replace(tiny_models.job(tiny(name), OPENVINO, variant), model_dir=file)))
    asked = tiny_models.asked_prompts()
    expected = reference(name).generate(asked, tiny_models.NEW_TOKENS).tokens
    assert engine.generate(asked, tiny_models.NEW_TOKENS).tokens == expected
    assert [engine.generate([prompt], tiny_models.NEW_TOKENS).tokens[0] for prompt in asked] == list(expected)
