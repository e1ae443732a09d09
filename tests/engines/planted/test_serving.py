"""Errors planted in what serves alone, while `generate` is right: each must be found, and no true server refused."""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.llamacpp import own_server
from calibration.backends.llamacpp.adapter import LlamaCppBackend
from calibration.cache.cache import Cache
from calibration.check.agreement import Answers
from calibration.engine.server import OwnServer, ServerPlace
from calibration.engine.streams import Delta, Streams
from calibration.errors import IllegalBackend
from calibration.measurement import Agreement, FailureKind, OutputVerdict
from calibration.registry import find
from selector.evidence.identity import identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.serve.api.app import Settings, app
from selector.serve.api.listen import Server, url_of
from selector.serve.own_server import OwnServerUpstream
from tests.engines import tiny_models
from tests.engines.planted.at_once import HOLD, Plant, driven, found, found_at, opened, reference_of
from tests.engines.printed_commands import deployed
from tests.engines.served import serving, started
from tests.engines.tiny_configs import VOCAB
from tests.selector.launches import unserved

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
RIGHT, LOSSY, WRONG = OutputVerdict.RIGHT, OutputVerdict.LOSSY, OutputVerdict.WRONG
EXACT = ("onnxruntime:fp32", "transformers:sdpa", "transformers:eager", "ctranslate2:float32", "openvino:fp32-pa")
ONE_BY_ONE = "openvino:fp32-sdpa"
LESS_PRECISE = ("onnxruntime:int8", "onnxruntime:int4", "ctranslate2:int8", "openvino:int8-pa", "openvino:int4-pa")


@pytest.fixture(scope="session")
def expected(tiny: Folder) -> Callable[[str], Answers]:
    """expected(name): the reference's answers."""
    return cache(lambda name: reference_of(tiny(name)))


Check = Callable[..., Agreement]


@pytest.fixture
def check(tiny: Folder, expected: Callable[[str], Answers]) -> Check:
    """check(label, model, *plants): the verdict on streams in which something goes wrong after they were loaded."""

    def judged(label: str, model: str = "llama", *plants: Plant) -> Agreement:
        backend, _, variant = label.partition(":")
        streams = opened(find(backend), variant, tiny(model))
        try:
            for plant in plants:
                plant(streams)
            return found(driven(streams), label, tiny(model), expected(model))
        finally:
            streams.close()

    return judged


def told(verdict: Agreement) -> tuple[OutputVerdict, Agreement]:
    """With the whole verdict, for the reader of a failure."""
    return verdict.verdict, verdict


@pytest.mark.parametrize("model", ["llama", "qwen3"])
@pytest.mark.parametrize("label", [*EXACT, ONE_BY_ONE])
def test_no_true_server_is_refused(label: str, model: str, check: Check) -> None:
    verdict = check(label, model)
    assert told(verdict) == (RIGHT, verdict)
    assert verdict.detail == "55 of 55 tokens of 8 requests at once are the reference's"


@pytest.mark.parametrize(("label", "model"), [("transformers:sdpa", "llama-bf16"), ("openvino:fp16-pa", "llama-bf16")])
def test_no_true_server_in_16_bits_is_refused(label: str, model: str, check: Check) -> None:
    verdict = check(label, model)
    assert told(verdict) == (RIGHT, verdict)


@pytest.mark.parametrize("model", ["llama", "qwen2"])
@pytest.mark.parametrize("label", LESS_PRECISE)
def test_a_lossy_server_is_lossy(label: str, model: str, check: Check) -> None:
    verdict = check(label, model)
    assert told(verdict) == (LOSSY, verdict)


def length_of_a_neighbour(streams: Streams) -> None:
    """The second sequence of a batch is told as long as the first: its token stands, and is rotated, elsewhere."""
    graph: Any = streams._graph  # type: ignore[attr-defined]
    run = graph._run

    def planted(first: int, tokens: Any, mask: Any, places: Any) -> Any:
        if len(tokens) > 1:
            mask, places = mask.copy(), places.copy()
            mask[1], places[1] = mask[0], places[0]
        return run(first, tokens, mask, places)

    graph._run = planted


def sees_what_others_left(streams: Streams) -> None:
    """All sequences are told as long as the longest: a shorter one sees what stood in its row before."""
    graph: Any = streams._graph  # type: ignore[attr-defined]
    run = graph._run
    graph._run = lambda first, tokens, mask, places: run(first, tokens, mask * 0 + 1, places)


def stays_where_it_was(streams: Streams) -> None:
    """Whoever takes over the row of one that left does not bring its cache along."""
    graph: Any = streams._graph  # type: ignore[attr-defined]
    graph.move = lambda row, to, length: None


def swapped_rows(streams: Streams) -> None:
    """The logits of a step are handed to the requests in the other order."""
    loop: Any = streams
    choose = loop.choose

    def planted(logits: Any) -> None:
        batch = loop._processor.inputs_and_outputs.requests_in_batch
        count = sum(future.has_new_token for future in batch)
        logits[:count] = logits[:count].flip(0).clone()
        choose(logits)

    loop.choose = planted


def sees_its_neighbour(patch: pytest.MonkeyPatch) -> Plant:
    """The mask lets each request see the keys of the one before it."""
    from transformers.generation.continuous_batching import input_outputs

    build = vars(input_outputs)["build_attention_mask"]

    def planted(attention_mask: Any, cumulative_seqlens_q: Any, cumulative_seqlens_k: Any, **more: Any) -> None:
        build(attention_mask, cumulative_seqlens_q, cumulative_seqlens_k, **more)
        queries, keys = cumulative_seqlens_q, cumulative_seqlens_k
        for number in range(1, len(queries) - 1):
            rows = slice(queries[number], queries[number + 1])
            attention_mask[..., rows, keys[number - 1] : keys[number]] = 0

    return lambda _: patch.setattr(input_outputs, "build_attention_mask", planted)


def swapped_answers(streams: Streams) -> None:
    """Of the first two requests that get a token in a step each gets the other's."""
    step = streams.step

    def planted() -> Sequence[Delta]:
        deltas = list(step())
        pair = [number for number, delta in enumerate(deltas) if delta.tokens][:2]
        if len(pair) == 2:
            one, other = (deltas[number] for number in pair)
            deltas[pair[0]], deltas[pair[1]] = replace(one, tokens=other.tokens), replace(other, tokens=one.tokens)
        return deltas

    streams.step = planted  # type: ignore[method-assign]


def cut_to_the_shortest(streams: Streams) -> None:
    """Prompts of one call are taken for as long as the shortest."""
    engine: Any = streams._engine  # type: ignore[attr-defined]

    class Planted:
        def __init__(self, generator: Any) -> None:
            self.right = generator

        def __getattr__(self, name: str) -> Any:
            return getattr(self.right, name)

        def generate_batch(self, prompts: Any, **options: Any) -> Any:
            shortest = min(map(len, prompts))
            return self.right.generate_batch([prompt[:shortest] for prompt in prompts], **options)

    engine.generator = Planted(engine.generator)


PLANTS: dict[str, tuple[str, str, Plant]] = {
    "the length of a neighbour": ("onnxruntime:fp32", "llama", length_of_a_neighbour),
    "what others left is seen": ("onnxruntime:fp32", "llama", sees_what_others_left),
    "a cache that stays behind": ("onnxruntime:fp32", "llama", stays_where_it_was),
    "the length of a neighbour, in 8 bits": ("onnxruntime:int8", "qwen2", length_of_a_neighbour),
    "swapped rows": ("transformers:sdpa", "llama", swapped_rows),
    "swapped rows of eager attention": ("transformers:eager", "llama", swapped_rows),
    "swapped answers": ("openvino:fp32-pa", "llama", swapped_answers),
    "the length of a neighbour, in 4 bits": ("onnxruntime:int4", "llama", length_of_a_neighbour),
    "what others left is seen, in 4 bits": ("onnxruntime:int4", "qwen3", sees_what_others_left),
    "a cache that stays behind, in 4 bits": ("onnxruntime:int4", "qwen2", stays_where_it_was),
    "swapped answers in 4 bits": ("openvino:int4-pa", "qwen2", swapped_answers),
    "ragged prompts that are cut": ("ctranslate2:float32", "llama", cut_to_the_shortest),
}


@pytest.mark.parametrize("name", PLANTS)
def test_an_error_of_serving_alone_is_found(name: str, check: Check) -> None:
    label, model, plant = PLANTS[name]
    verdict = check(label, model, plant)
    assert told(verdict) == (WRONG, verdict)


def test_a_mask_that_sees_a_neighbour_is_found(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = check("transformers:sdpa", "llama", sees_its_neighbour(monkeypatch))
    assert told(verdict) == (WRONG, verdict)


SERVED = ("onnxruntime:fp32", "transformers:sdpa", "ctranslate2:float32", "openvino:fp32-pa", "llamacpp:f32")


@pytest.mark.parametrize("label", SERVED)
def test_what_serve_starts_is_right(
    label: str, tiny: Folder, expected: Callable[[str], Answers], tmp_path: Path
) -> None:
    """Over HTTP, from the front to the engine and back; llama.cpp's is a server of its own."""
    words = ("--backend", label, "--slots", HOLD.slots, "--context", HOLD.context_tokens, "--no-observe")
    environment = {"AUTOBACKEND_ARTIFACTS": str(tmp_path / "artifacts")}
    with serving(tiny("llama"), *words, folder=tmp_path, **environment) as server:
        verdict = found_at(server.url, server.model, label, tiny("llama"), expected("llama"))
    assert told(verdict) == (RIGHT, verdict)
    # Of its streams llama-server leaves tokens out, so that the answer that runs on is not judged.
    count = "47 of 47 tokens of 7" if label == "llamacpp:f32" else "55 of 55 tokens of 8"
    assert verdict.detail == f"{count} requests at once are the reference's"


@pytest.mark.parametrize("base", [2345.0, 50.0])
def test_a_rotation_of_llama_servers_own_is_found(
    base: float, tiny: Folder, expected: Callable[[str], Answers], tmp_path: Path
) -> None:
    """The program that serves is another one than the engine that was checked. 2345 is the model's own rope theta."""
    backend = LlamaCppBackend()
    tiny_models.load(backend, "f32", tiny("llama")).close()
    artifact = tiny("llama").parent / f"{tiny('llama').name}-llamacpp-f32"
    deployment = replace(deployed("/somewhere"), artifact_dir=str(artifact))
    script = tmp_path / "planted_server.py"
    script.write_text(PLANTED_SERVER.format(file=own_server.__file__, base=base))

    def describe(place: ServerPlace) -> OwnServer:
        described = backend.own_server(backend.variant("f32"), deployment, place)
        assert described is not None
        return replace(described, argv=(str(script), *described.argv[1:]))

    async def scenario() -> Agreement:
        upstream = OwnServerUpstream(
            describe,
            name="llamacpp",
            place=ServerPlace(port=0, slots=HOLD.slots, context_tokens=HOLD.context_tokens, threads=1),
            python=Path(sys.executable),
            log=tmp_path / "server.log",
            vocab_size=VOCAB,
        )
        await upstream.start()
        front = Server(app(upstream, Settings(names=("tiny",))))
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            answering = asyncio.create_task(front.serve(sockets=[listening]))
            try:
                return await asyncio.to_thread(
                    found_at, url_of(listening), "tiny", "llamacpp:f32", tiny("llama"), expected("llama")
                )
            finally:
                front.should_exit = True
                await answering
                await upstream.stop(0.0)

    verdict = asyncio.run(scenario())
    assert told(verdict) == (RIGHT if base == 2345.0 else WRONG, verdict)


PLANTED_SERVER = """
import importlib.util
import sys

spec = importlib.util.spec_from_file_location("own_server", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
right = module.settings


def settings(*words, **named):
    params = right(*words, **named)
    params.rope_freq_base = {base}
    return params


module.settings = settings
module.main(sys.argv[1:])
"""


def test_serve_refuses_who_answered_wrong_as_it_was_served(tiny: Folder, tmp_path: Path) -> None:
    """A calibration may start it, to check it again."""
    label, host = "transformers:eager", HostSpec.detect()
    key = identity(ModelSpec.read(tiny("llama")), host)
    with Cache.open(tmp_path / "cache.db") as known:
        known.add(unserved(label, key, host, kind=FailureKind.WRONG_OUTPUT, message="token 7 after prompt 2 is 9"))
    words, said = (tiny("llama"), "--backend", label, "--no-observe"), tmp_path / "refused.txt"
    process = started(*words, folder=tmp_path, said=said)
    output, _ = process.communicate(timeout=300)
    assert output == ""
    assert process.returncode == IllegalBackend.exit_code
    reason = "needs right output as served; found wrong output as served: token 7 after prompt 2 is 9"
    assert reason in said.read_text()
    with serving(*words, "--to-measure", folder=tmp_path) as server:
        assert server.get("/health")[0] == 200
