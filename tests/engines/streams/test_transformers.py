"""transformers as streams: continuous batching where it computes what the decode loop does, else the loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.backend import Engine
from calibration.backends.transformers import TransformersBackend
from calibration.backends.transformers.continuous import ContinuousLoop
from calibration.backends.transformers.token_loop import TokenLoop
from calibration.engine.streams import Ability, Request, Streams
from tests.engines import tiny_models
from tests.engines.streams.streaming import (
    answers,
    greedy,
    in_a_worker,
    prompts,
    requests,
    streams_of,
    unlike,
    unlike_abilities,
)

BACKEND = TransformersBackend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]

TOGETHER = (
    "gpt2",
    "llama",
    "llama3",
    "mistral-window",
    "qwen2",
    "qwen3",
    "qwen3-moe",
    "gemma3",
    "granite",
    "phi3",
    "olmo2",
)


@pytest.mark.parametrize("variant", ["sdpa", "eager"])
@pytest.mark.parametrize("name", TOGETHER)
def test_requests_join_those_that_run(name: str, variant: str, tiny: Folder) -> None:
    expected = greedy(tiny_models.load(BACKEND, variant, tiny(name)))
    streams = streams_of(BACKEND, variant, tiny(name))
    assert isinstance(streams, ContinuousLoop) and streams.batching == "continuous"
    assert BACKEND.streams_type(BACKEND.variant(variant)) is ContinuousLoop
    assert unlike(streams, expected) == []


@pytest.mark.parametrize(
    ("name", "variant", "why"),
    [
        ("gemma2", "eager", "it leaves the softcap of attention scores out"),
        ("gptj", "eager", "its answers are 1.8 nats apart from the decode loop's"),  # its attention knows no pages
        ("mamba", "eager", "ValueError: Invalid layer type: linear_attention"),
        ("deepseek-v3", "sdpa", "RuntimeError: index_copy_()"),  # keys and values of two widths
    ],
)
def test_what_cannot_be_batched_is_served_one_after_another(
    name: str, variant: str, why: str, tiny: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = greedy(tiny_models.load(BACKEND, variant, tiny(name)))
    streams = streams_of(BACKEND, variant, tiny(name))
    assert isinstance(streams, TokenLoop) and streams.batching == "none"
    assert why in capfd.readouterr().out
    assert unlike(streams, expected) == []


@pytest.mark.parametrize(("name", "variant"), [("llama-bf16", "sdpa"), ("llama-bf16", "sdpa-fp32"), ("llama", "int8")])
def test_other_precisions_are_batched_too(name: str, variant: str, tiny: Folder) -> None:
    streams = streams_of(BACKEND, variant, tiny(name))
    assert isinstance(streams, ContinuousLoop)
    got = {key: answer.tokens for key, answer in answers(streams, requests(), apart=1).items()}
    assert got == greedy(tiny_models.load(BACKEND, variant, tiny(name)))


@pytest.mark.slow
def test_compiled_steps_are_taken_one_after_another(tiny: Folder) -> None:
    expected = greedy(tiny_models.load(BACKEND, "compile", tiny("llama")))
    streams = streams_of(BACKEND, "compile", tiny("llama"))
    assert isinstance(streams, TokenLoop) and BACKEND.streams_type(BACKEND.variant("compile")) is TokenLoop
    assert unlike(streams, expected) == []


@pytest.mark.parametrize(("name", "variant"), [("llama", "sdpa"), ("gemma2", "eager")])
def test_its_abilities_are_true(name: str, variant: str, tiny: Folder, reference: Callable[..., Engine]) -> None:
    streams = streams_of(BACKEND, variant, tiny(name))
    assert streams.abilities == frozenset(Ability)
    assert unlike_abilities(streams, reference(name), within=1e-3) == []


def test_a_prompt_longer_than_a_piece_is_computed_in_pieces(
    tiny: Folder, reference: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calibration.backends.transformers.continuous.PIECE_TOKENS", 6)
    streams = streams_of(BACKEND, "sdpa", tiny("llama"))
    assert isinstance(streams, ContinuousLoop)
    assert unlike(streams, greedy(reference("llama"))) == []
    streams.add(requests()[0])
    assert [len(streams.step()) for _ in range(4)] == [0, 0, 1, 1]


def test_what_is_cancelled_frees_its_pages(tiny: Folder) -> None:
    streams = streams_of(BACKEND, "sdpa", tiny("llama"))
    cache = streams._processor.cache  # type: ignore[attr-defined]

    def free() -> float:
        cache.pool.try_to_free_sectors()
        return float(cache.compute_free_capacity())

    whole = free()
    for request in requests(60):
        streams.add(request)
    for _ in range(3):
        streams.step()
    held = whole - free()
    streams.cancel("1")
    streams.step()
    left = whole - free()
    for name in "012":
        streams.cancel(name)
    assert 0 < left <= held
    assert (whole - free(), streams.running) == (0.0, 0)


def test_the_cache_holds_all_places_at_full_length(tiny: Folder) -> None:
    """Two requests that fill the context run side by side, and neither is put out for the other."""
    context = 128
    streams = streams_of(BACKEND, "sdpa", tiny("gemma3"), max_context_tokens=context)
    asked = [
        Request(id=str(number), prompt=tuple(prompts()[0]) * 4, max_tokens=context - 4 * len(prompts()[0]))
        for number in range(2)
    ]
    got = answers(streams, asked)
    assert [(answer.pieces, answer.finish) for answer in got.values()] == [(context - 96, "length")] * 2
    assert got["0"].tokens == got["1"].tokens
    with pytest.raises(ValueError, match="needs prompt and new tokens of at most 128; found 129"):
        streams.add(replace(asked[0], max_tokens=33))


@pytest.mark.parametrize("context", [2, 5, 30])
def test_a_short_context_is_tried_as_far_as_it_goes(
    context: int, tiny: Folder, reference: Callable[..., Engine]
) -> None:
    streams = streams_of(BACKEND, "sdpa", tiny("llama"), max_context_tokens=context)
    assert isinstance(streams, ContinuousLoop)
    prompt = prompts()[0][: context - 1]
    got = answers(streams, [Request(id="a", prompt=prompt, max_tokens=1)])["a"].tokens
    assert got == list(reference("llama").generate([prompt], 1).tokens[0])


def test_a_reference_that_runs_by_layer_streams_too(tiny: Folder) -> None:
    job = tiny_models.job(tiny("llama"), BACKEND, "eager")
    options = {**job.variant.options, "by_layer": True}
    streams: Streams = BACKEND.streams(replace(job, variant=replace(job.variant, options=options)))
    got = {key: answer.tokens for key, answer in answers(streams, requests()).items()}
    assert got == greedy(tiny_models.load(BACKEND, "eager", tiny("llama")))


@pytest.mark.parametrize(("name", "variant"), [("llama", "sdpa"), ("gemma2", "eager")])
def test_a_worker_serves_it(name: str, variant: str, tiny: Folder, tmp_path: Path) -> None:
    job = replace(tiny_models.job(tiny(name), BACKEND, variant), max_batch=2)
    got = in_a_worker(job, BACKEND, requests(), tmp_path / "log")
    expected = greedy(tiny_models.load(BACKEND, variant, tiny(name)))
    assert {key: answer.tokens for key, answer in got.items()} == expected
