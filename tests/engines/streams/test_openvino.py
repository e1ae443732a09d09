"""openvino as streams: continuous batching with paged attention, one after another without."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.backend import Engine
from calibration.engine.streams import Finish, Request, Streams
from calibration.registry import find
from tests.engines import tiny_models
from tests.engines.backends.test_openvino import in_float32, loaded
from tests.engines.streams import streaming
from tests.engines.streams.streaming import answers, greedy, requests, unlike, unlike_abilities
from tests.engines.tiny_configs import VOCAB

pytestmark = pytest.mark.engine
OPENVINO = find("openvino")

Folder = Callable[..., Path]


def opened(variant: str, folder: Path, *, max_batch: int = 2, as_float32: bool = False) -> Streams:
    """Streams on the graph that `loaded` converted."""
    asked = tiny_models.job(folder, OPENVINO, variant)
    artifact = folder.parent / f"{folder.name}-openvino-{asked.variant.prepared_as}"
    asked = replace(tiny_models.job(folder, OPENVINO, variant, artifact), max_batch=max_batch)
    return OPENVINO.streams(in_float32(asked) if as_float32 else asked)


@pytest.mark.parametrize("variant", ["fp32-pa", "fp32-sdpa", "fp16-pa", "int8-pa"])
def test_requests_that_come_and_go_get_what_they_would_get_alone(variant: str, tiny: Folder) -> None:
    expected = greedy(loaded(variant, tiny("llama")))
    streams = opened(variant, tiny("llama"))
    assert OPENVINO.streams_type(OPENVINO.variant(variant)) is type(streams)
    assert streams.batching == ("continuous" if variant.endswith("-pa") else "none")
    assert unlike(streams, expected) == []


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gemma", "qwen3-moe"])
def test_other_architectures_do_too(name: str, tiny: Folder, reference: Callable[..., Engine]) -> None:
    loaded("fp32-pa", tiny(name)).close()
    assert unlike(opened("fp32-pa", tiny(name)), greedy(reference(name))) == []


@pytest.mark.parametrize("variant", ["gguf-pa", "gguf-sdpa"])
def test_a_gguf_file_is_streamed_as_it_is(variant: str, tiny: Folder, gguf: Path) -> None:
    del gguf  # made beside it in f32, which this reader does not take
    tiny_models.load(find("llamacpp"), "f16", tiny("llama")).close()
    file = tiny("llama").parent / f"{tiny('llama').name}-llamacpp-f16" / "model.gguf"
    asked = in_float32(replace(tiny_models.job(tiny("llama"), OPENVINO, variant), model_dir=file, max_batch=2))
    expected = greedy(OPENVINO.load(asked))
    assert unlike(OPENVINO.streams(asked), expected) == []


@pytest.mark.parametrize("variant", ["fp32-pa", "fp32-sdpa"])
def test_its_abilities_are_true(variant: str, tiny: Folder) -> None:
    engine = loaded(variant, tiny("llama"))
    streams = opened(variant, tiny("llama"))
    assert unlike_abilities(streams, engine, within=1e-3) == []
    assert {ability.value for ability in streams.abilities} == {"temperature", "top_p", "seed"}


@pytest.mark.parametrize("variant", ["fp32-pa", "fp32-sdpa"])
def test_an_end_token_of_the_checkpoint_ends_nothing_by_itself(variant: str, tiny: Folder) -> None:
    """Token 45 is on a path, and the checkpoint says that it ends the text."""
    engine = loaded(variant, tiny("llama-eos"))
    prompts = [tuple(prompt) for prompt in tiny_models.asked_prompts()]
    paths = {str(number): list(engine.generate([prompt], 8).tokens[0]) for number, prompt in enumerate(prompts)}
    assert any(45 in path[:-1] for path in paths.values())
    unused = next(token for token in range(VOCAB) if all(token not in path for path in paths.values()))
    streams = opened(variant, tiny("llama-eos"))
    for ends in (frozenset[int](), frozenset({unused})):
        asked = [
            Request(id=str(number), prompt=prompt, max_tokens=8, end_tokens=ends)
            for number, prompt in enumerate(prompts)
        ]
        assert {key: answer.tokens for key, answer in answers(streams, asked).items()} == paths


def test_more_requests_than_places_wait_for_one(tiny: Folder) -> None:
    loaded("fp32-pa", tiny("llama")).close()
    streams = opened("fp32-pa", tiny("llama"), max_batch=2)
    for request in requests(20):
        streams.add(request)
    begun = {delta.id for _ in range(5) for delta in streams.step()}
    streams.cancel("0")
    begun_then = {delta.id for _ in range(3) for delta in streams.step()}
    assert (begun, begun_then) == ({"0", "1"}, {"1", "2"})


def test_what_is_cancelled_frees_its_part_of_the_cache(tiny: Folder) -> None:
    loaded("fp32-pa", tiny("llama")).close()
    streams = opened("fp32-pa", tiny("llama"))
    pipeline = streams._pipeline  # type: ignore[attr-defined]
    for request in requests(60):
        streams.add(request)
    for _ in range(3):
        streams.step()
    held = pipeline.get_metrics().requests
    for name in "012":
        streams.cancel(name)
    assert (held, pipeline.has_non_finished_requests(), streams.running) == (2, False, 0)


def test_the_first_token_comes_long_before_the_last(tiny: Folder) -> None:
    """Without paged attention each answer waits for the one before, but none waits for its own end."""
    loaded("fp32-sdpa", tiny("llama")).close()
    streams = opened("fp32-sdpa", tiny("llama"))
    shares = []
    for name in "abcde":  # a busy machine may hold up one of them
        streams.add(Request(id=name, prompt=streaming.prompts()[0], max_tokens=100))
        began = time.perf_counter()
        [first] = streams.step()
        first_s = time.perf_counter() - began
        while streams.running:
            [last] = streams.step()
        shares.append(first_s / (time.perf_counter() - began))
        assert (len(first.tokens), last.finish) == (1, Finish.LENGTH)
    assert min(shares) < 1 / 2


def test_a_setting_that_the_engine_refuses_is_refused_at_once(tiny: Folder) -> None:
    for variant in ("fp32-pa", "fp32-sdpa"):
        loaded(variant, tiny("llama")).close()
        streams = opened(variant, tiny("llama"))
        with pytest.raises(ValueError, match="temperature"):
            streams.add(Request(id="cold", prompt=(5, 6), max_tokens=4, temperature=1e-60))
        assert streams.running == 0


@pytest.mark.parametrize("variant", ["fp32-pa", "fp32-sdpa"])
def test_a_worker_serves_it(variant: str, tiny: Folder, tmp_path: Path) -> None:
    expected = greedy(loaded(variant, tiny("llama")))
    artifact = tiny("llama").parent / f"{tiny('llama').name}-openvino-fp32"
    job = replace(tiny_models.job(tiny("llama"), OPENVINO, variant, artifact), max_batch=2)
    got = streaming.in_a_worker(job, OPENVINO, requests(), tmp_path / "log")
    assert {key: answer.tokens for key, answer in got.items()} == expected
