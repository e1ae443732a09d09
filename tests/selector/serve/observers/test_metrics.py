"""Metrics: what Prometheus reads of the requests, and the line that --log-requests writes for each."""

from typing import Any

import pytest

from calibration.engine.streams import Finish
from selector.demand.traffic import Traffic
from selector.serve.observers.metrics import Metrics, Served
from selector.serve.observers.observer import Observer
from selector.serve.observers.request_log import RequestLog, Several
from selector.serve.upstream import Ask, Piece
from tests.selector.serve.clock import Clock

ASK = Ask(prompt=(1, 2, 3))
SERVED = Served(model_name="tiny", candidate="openvino:fp16-pa", source="measured", slots=2)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(SERVED, Traffic(candidate="openvino:fp16-pa", clock=clock), clock=clock)


def value(metrics: Metrics, name: str, **labels: str) -> Any:
    return metrics.registry.get_sample_value(f"autobackend_{name}", {"model_name": "tiny", **labels})


def answered(observer: Observer, clock: Clock) -> None:
    """The first token after 0.5 s, two more after 0.1 s and 0.3 s, and it ends."""
    observation = observer.arrived(ASK)
    clock.now += 0.5
    observation.gave(Piece(text="a", tokens=(7,)))
    clock.now += 0.1
    observation.gave(Piece(text="b", tokens=(8,)))
    clock.now += 0.3
    observation.gave(Piece(text="c", tokens=(9,), finish=Finish.LENGTH, prompt_tokens=40, completion_tokens=3))
    observation.ended(Finish.LENGTH)


def test_an_answer_is_counted_and_timed(metrics: Metrics, clock: Clock) -> None:
    answered(metrics, clock)
    counted = {
        "prompt_tokens_total": 40.0,
        "generation_tokens_total": 3.0,
        "time_to_first_token_seconds_count": 1.0,
        "time_to_first_token_seconds_sum": 0.5,
        "inter_token_latency_seconds_count": 2.0,
        "inter_token_latency_seconds_sum": pytest.approx(0.4),
        "request_time_per_output_token_seconds_sum": pytest.approx(0.2),
        "e2e_request_latency_seconds_sum": pytest.approx(0.9),
        "request_prompt_tokens_sum": 40.0,
        "request_generation_tokens_sum": 3.0,
    }
    assert {name: value(metrics, name) for name in counted} == counted
    assert value(metrics, "request_success_total", finished_reason="length") == 1.0
    assert value(metrics, "request_success_total", finished_reason="stop") == 0.0
    assert value(metrics, "info", candidate="openvino:fp16-pa", source="measured") == 1.0


def test_beyond_the_slots_requests_wait(metrics: Metrics) -> None:
    observations = [metrics.arrived(ASK) for _ in range(3)]
    assert (value(metrics, "num_requests_running"), value(metrics, "num_requests_waiting")) == (2.0, 1.0)
    observations[0].ended(Finish.CANCELLED)
    observations[1].ended(None)
    assert (value(metrics, "num_requests_running"), value(metrics, "num_requests_waiting")) == (1.0, 0.0)
    assert value(metrics, "request_success_total", finished_reason="abort") == 1.0
    assert value(metrics, "prompt_tokens_total") == 0.0


def test_a_server_that_tells_no_ids_tells_the_number_of_tokens_at_the_end(metrics: Metrics) -> None:
    observation = metrics.arrived(ASK)
    observation.gave(Piece(text="some words"))
    observation.gave(Piece(finish=Finish.STOP, prompt_tokens=5, completion_tokens=4))
    observation.ended(Finish.STOP)
    assert value(metrics, "generation_tokens_total") == 4.0
    assert value(metrics, "time_to_first_token_seconds_count") == 1.0


def test_refusals_are_counted_by_status(metrics: Metrics) -> None:
    metrics.refused(400)
    metrics.refused(400)
    assert value(metrics, "request_refused_total", status="400") == 2.0


def test_its_text_is_prometheus_own(metrics: Metrics, clock: Clock) -> None:
    answered(metrics, clock)
    lines = metrics.exposition()[0].decode().splitlines()
    assert "# TYPE autobackend_time_to_first_token_seconds histogram" in lines
    assert 'autobackend_generation_tokens_total{model_name="tiny"} 3.0' in lines
    assert 'autobackend_engine_restarts_total{model_name="tiny"} 0.0' in lines
    assert 'autobackend_engine_switches_total{model_name="tiny"} 0.0' in lines
    assert not [line for line in lines if "_created" in line]


def test_the_log_has_a_line_for_each_request(metrics: Metrics, clock: Clock) -> None:
    told: list[str] = []
    observer = Several([metrics, RequestLog(told.append, clock=clock)])
    answered(observer, clock)
    observer.arrived(ASK).ended(None)
    observer.refused(404)
    assert told == ["40 prompt tokens, 3 new ones in 0.90 s, the first after 0.50 s: length", "answered with 404"]
    assert value(metrics, "generation_tokens_total") == 3.0
    assert value(metrics, "request_refused_total", status="404") == 1.0


def test_after_a_switch_it_tells_of_the_other_engine(clock: Clock) -> None:
    traffic = Traffic(candidate="openvino:fp16-pa", clock=clock)
    metrics = Metrics(SERVED, traffic, clock=clock)
    in_flight = metrics.arrived(ASK)
    metrics.now_serves("transformers:sdpa", "measured", 1)
    assert value(metrics, "info", candidate="openvino:fp16-pa", source="measured") is None
    assert value(metrics, "info", candidate="transformers:sdpa", source="measured") == 1.0
    assert value(metrics, "engine_switches_total") == 1.0
    answered(metrics, clock)
    in_flight.gave(Piece(tokens=(7,), finish=Finish.LENGTH, prompt_tokens=40, completion_tokens=1))
    in_flight.ended(Finish.LENGTH)
    metrics.arrived(ASK)
    metrics.arrived(ASK)
    assert (value(metrics, "num_requests_running"), value(metrics, "num_requests_waiting")) == (1.0, 1.0)
    came = traffic.take()
    assert came is not None
    assert came.candidates == {"transformers:sdpa": 1, "openvino:fp16-pa": 1}
    metrics.now_serves("transformers:sdpa", "measured", 2)
    assert value(metrics, "info", candidate="transformers:sdpa", source="measured") == 1.0
