"""A bare engine under a closed loop: a real worker with a tiny engine, whose steps take a known time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.bare import BareEngine
from calibration.backend import Job, Variant
from calibration.errors import AutobackendError
from calibration.load.client.draws import plan, prompt_ids
from calibration.load.client.load_spec import LoadSpec
from calibration.load.load import Load
from calibration.load.sample import Point
from calibration.supervision.replies import Reply
from calibration.supervision.supervisor import Worker
from calibration.worker.opening import Opening

ENGINE = str(Path(__file__).parents[2] / "calibration" / "tiny_engines" / "counting_streams.py")
STEP_S = 0.01
LOAD = Load.parse("pp8:tg4-6:c2")
SPEC = LoadSpec(
    url="", model="", vocab_size=1 << 20, load=LOAD, seed="0", prompt_seed="0", requests=6, budget_s=0.0, patience_s=0.0
)


@contextmanager
def an_engine(tmp_path: Path, **options: Any) -> Iterator[BareEngine]:
    job = Job(
        model_dir=tmp_path, artifact_dir=None, dtype="float32", vocab_size=SPEC.vocab_size, device="cpu", threads=1,
        max_context_tokens=64, max_batch=4, variant=Variant(name="plain", options={"step_s": STEP_S, **options}),
    )  # fmt: skip
    with Worker(Path(sys.executable), log=tmp_path / "log", memory_limit_bytes=8 << 30) as worker:
        opening = Opening(backend="counting", job=job, source=ENGINE).request()
        assert isinstance(worker.ask("open", timeout_s=120, **opening), Reply)
        assert isinstance(worker.ask("load_streams", timeout_s=120), Reply)
        engine = BareEngine(worker)
        try:
            yield engine
        finally:
            engine.kill()


def most_at_once(point: Point) -> int:
    return max(sum(a.sent_s <= b.sent_s < a.last_s for a in point.asked) for b in point.asked)


def test_the_requests_are_those_of_the_load_and_so_are_their_streams(tmp_path: Path) -> None:
    with an_engine(tmp_path) as engine:
        point = engine.run(SPEC)
    planned = list(islice(plan(LOAD, "0"), 6))
    assert sorted((a.number, a.prompt_tokens, a.output_tokens) for a in point.asked) == [
        (p.number, p.prompt_tokens, p.output_tokens) for p in planned
    ]
    assert [len(a.chunks_s) for a in point.answered] == [a.output_tokens for a in point.asked]
    assert most_at_once(point) == LOAD.streams
    assert point.end_s == max(a.last_s for a in point.asked)


def test_times_are_those_of_the_engines_steps(tmp_path: Path) -> None:
    with an_engine(tmp_path) as engine:
        point = engine.run(SPEC)
    assert min(a.ttft_s for a in point.asked) >= STEP_S
    # Steps are told when they are over; one that was told late lets the next seem shorter.
    assert min(a.e2e_s / a.output_tokens for a in point.asked) >= STEP_S


def test_an_engine_that_dies_is_no_figure(tmp_path: Path) -> None:
    first = prompt_ids(SPEC.prompt_seed, 0, LOAD.prompt.low, SPEC.vocab_size)[-1] + 1
    with (
        an_engine(tmp_path, at_token={str(first): "exit"}) as engine,
        pytest.raises(AutobackendError, match="the engine ended"),
    ):
        engine.run(SPEC)


def test_an_answer_that_fails_is_no_figure(tmp_path: Path) -> None:
    first = prompt_ids(SPEC.prompt_seed, 0, LOAD.prompt.low, SPEC.vocab_size)[-1] + 1
    with (
        an_engine(tmp_path, at_token={str(first): "fail"}) as engine,
        pytest.raises(AutobackendError, match="the engine does not answer: this one went wrong"),
    ):
        engine.run(SPEC)
