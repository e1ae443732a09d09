"""The load client and the API agree: what it asks is taken as it is, and its figures are those of the engine behind."""

import pytest

from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import Figure, Point
from selector.serve.language.text import Text
from tests.selector.serve.scripted import Scripted, counting
from tests.selector.serve.serving import VOCAB_SIZE, served, with_keys


def measured(engine: Scripted, text: Text | None, label: str, requests: int = 40) -> Point:
    with served(engine, text, settings=with_keys("secret")) as there:
        server = LoadedServer(url=there.url, model="tiny", vocab_size=VOCAB_SIZE, key="secret")
        point = run_load(server, Load.parse(label), Measuring(budget_s=60, requests=requests))
    assert isinstance(point, Point), point
    return point


@pytest.mark.parametrize("label", ["pp5-30:tg12:c4", "pp5-30:tg12:r40"])
def test_a_model_without_a_tokenizer_is_measured_by_its_token_ids(label: str) -> None:
    engine = Scripted(counting, step_s=0.004)
    point = measured(engine, None, label)
    assert (point.failures, point.saturated, point.text_prompts) == ((), "", False)
    assert len(point.sample) == 40
    # Each token comes alone, and none before its step.
    assert all(len(asked.chunks_s) == asked.output_tokens for asked in point.sample)
    tpot_s = point.percentile(Figure.TPOT, 50)
    assert tpot_s is not None and tpot_s >= 0.004
    assert max(len(request.prompt) for request in engine.requests) == 30
    assert all(request.end_tokens == frozenset() for request in engine.requests)
    assert all(request.temperature == 0 for request in engine.requests)


def test_streams_of_a_closed_loop_are_as_many_requests_at_once() -> None:
    engine = Scripted(counting, step_s=0.002)
    measured(engine, None, "pp5:tg12:c6")
    assert engine.most_running == 6


def test_what_the_client_leaves_at_the_end_is_cancelled_in_the_engine() -> None:
    engine = Scripted(counting, step_s=0.02)
    point = measured(engine, None, "pp5:tg30:c3", requests=5)
    left = [asked for asked in point.asked if asked.error]
    assert left
    # One that had all of its tokens by then needs no cancelling.
    assert 0 < len(engine.cancelled) <= len(left)
