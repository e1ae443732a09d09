"""Metrics: what became of the requests, for Prometheus; under vLLM's names where they mean the same."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from calibration.engine.streams import Finish
from selector.demand.traffic import Traffic
from selector.serve.observers.observer import Observation
from selector.serve.upstream import Ask, Piece

PREFIX = "autobackend_"
TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
PER_TOKEN_S = (
    0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
E2E_S = (0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
"""Bounds of the histograms: vLLM's (v1/metrics/loggers.py), with two more below for small models."""

REASONS = {Finish.CANCELLED: "abort"}
"""What vLLM calls an end otherwise than we do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is served, as the metrics' labels tell it."""

    model_name: str
    candidate: str
    source: str
    slots: int


class Metrics:
    """Follows all requests (see observer.Observer) and tells Prometheus of them.

    Args:
        traffic: is told of the same requests.
    """

    def __init__(self, served: Served, traffic: Traffic, *, clock: Callable[[], float] = time.monotonic) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._traffic, self._clock, self._served = traffic, clock, served
        self._in_flight = 0
        self.registry = registry = CollectorRegistry()
        name = served.model_name

        def counter(short: str, text: str) -> Counter:
            return Counter(PREFIX + short, text, ["model_name"], registry=registry).labels(name)

        def gauge(short: str, text: str, value: Callable[[], float]) -> None:
            Gauge(PREFIX + short, text, ["model_name"], registry=registry).labels(name).set_function(value)

        def histogram(short: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            return Histogram(PREFIX + short, text, ["model_name"], buckets=bounds, registry=registry).labels(name)

        self._info = Gauge(
            PREFIX + "info",
            "What is served, and where the choice comes from.",
            ["candidate", "source", "model_name"],
            registry=registry,
        )
        self._info.labels(served.candidate, served.source, name).set(1)
        gauge("num_requests_running", "Requests that the engine has room for.", lambda: self._in_flight - self._waiting)
        gauge("num_requests_waiting", "Requests beyond that.", lambda: self._waiting)
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of requests that ended.")
        self.restarts = counter("engine_restarts", "How often the engine was started again after it ended.")
        self._switches = counter("engine_switches", "How often another engine took the place of the one that answered.")
        self.ttft = histogram("time_to_first_token_seconds", "From arrival to the first token.", TTFT_S)
        self.tokens = _Tokens(name)
        registry.register(self.tokens)
        self.tpot = histogram(
            "request_time_per_output_token_seconds", "A request's mean time per token after the first.", PER_TOKEN_S
        )
        self.e2e = histogram("e2e_request_latency_seconds", "From arrival to the last token.", E2E_S)
        self.prompt_lengths = histogram("request_prompt_tokens", "Prompt tokens of a request.", TOKENS)
        self.output_lengths = histogram("request_generation_tokens", "Tokens that a request generated.", TOKENS)
        self._ends = Counter(
            PREFIX + "request_success",
            "Requests that ended, by how: stop, length, abort (the client left), error.",
            ["model_name", "finished_reason"],
            registry=registry,
        )
        self._refusals = Counter(
            PREFIX + "request_refused", "Answers with an error, by status.", ["model_name", "status"], registry=registry
        )
        for reason in ("stop", "length", "abort", "error"):
            self._ends.labels(name, reason)
        self._name = name

    def exposition(self) -> tuple[bytes, str]:
        """What /metrics answers, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def now_serves(self, candidate: str, source: str, slots: int) -> None:
        """Another engine has taken the place of the one that answered."""
        before, name = self._served, self._name
        self._served = replace(before, candidate=candidate, source=source, slots=slots)
        self._info.remove(before.candidate, before.source, name)
        self._info.labels(candidate, source, name).set(1)
        self._traffic.candidate = candidate
        self._switches.inc()

    def arrived(self, ask: Ask) -> Observation:
        """See Observer."""
        self._in_flight += 1
        self._traffic.running(self._in_flight)
        return _Answer(self, self._clock, self._served.candidate)

    def refused(self, status: int) -> None:
        """See Observer."""
        self._refusals.labels(self._name, str(status)).inc()

    def left(self, finish: Finish | None, prompt_tokens: int, output_tokens: int, candidate: str) -> None:
        """A request is over.

        Args:
            finish: None: it was refused, and nothing was run.
            prompt_tokens: 0 where it did not get as far as to tell.
            candidate: that answered when it came.
        """
        self._in_flight -= 1
        self._traffic.running(self._in_flight)
        if finish is None:
            return
        self._ends.labels(self._name, REASONS.get(finish, str(finish))).inc()
        if prompt_tokens:
            self.prompt_tokens.inc(prompt_tokens)
            self.prompt_lengths.observe(prompt_tokens)
            self.output_lengths.observe(output_tokens)
            self._traffic.answered(prompt_tokens, output_tokens, candidate)

    @property
    def _waiting(self) -> int:
        return max(0, self._in_flight - self._served.slots)


class _Tokens(Collector):
    """Tokens that were generated and the gaps between them, summed up when Prometheus asks.

    Its own Histogram and Counter take longer for a token than to write its chunk.
    """

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self.count = 0
        self._gaps = [0] * (len(PER_TOKEN_S) + 1)
        """For each bound, and for what is beyond all."""
        self._gaps_s = 0.0

    def add_gap(self, seconds: float) -> None:
        self._gaps[bisect_left(PER_TOKEN_S, seconds)] += 1
        self._gaps_s += seconds

    def collect(self) -> Iterator[Metric]:
        """The two metrics."""
        count = CounterMetricFamily(PREFIX + "generation_tokens", "Tokens that were generated.", labels=["model_name"])
        count.add_metric([self._model_name], self.count)
        yield count
        gaps = HistogramMetricFamily(
            PREFIX + "inter_token_latency_seconds",
            "Between two steps that gave a request tokens.",
            labels=["model_name"],
        )
        bounds = [str(float(bound)) for bound in PER_TOKEN_S] + ["+Inf"]
        gaps.add_metric([self._model_name], list(zip(bounds, accumulate(self._gaps), strict=True)), self._gaps_s)
        yield gaps


class _Answer:
    """One request."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float], candidate: str) -> None:
        self._metrics, self._clock, self._candidate = metrics, clock, candidate
        self._arrived_s = clock()
        self._first_s = self._last_s = 0.0
        self._tokens = self._prompt_tokens = 0

    def gave(self, piece: Piece) -> None:
        now, metrics = self._clock(), self._metrics
        if piece.tokens or piece.text:
            if self._first_s:
                metrics.tokens.add_gap(now - self._last_s)
            else:
                self._first_s = now
                metrics.ttft.observe(now - self._arrived_s)
            self._last_s = now
        # A server that does not tell token ids tells their number with the last piece.
        counted = piece.completion_tokens - self._tokens if piece.finish else len(piece.tokens)
        if counted > 0:
            self._tokens += counted
            metrics.tokens.count += counted
        self._prompt_tokens = piece.prompt_tokens or self._prompt_tokens

    def ended(self, finish: Finish | None) -> None:
        if finish in {Finish.STOP, Finish.LENGTH}:
            self._metrics.e2e.observe(self._clock() - self._arrived_s)
            if self._tokens > 1:
                self._metrics.tpot.observe((self._last_s - self._first_s) / (self._tokens - 1))
        self._metrics.left(finish, self._prompt_tokens, self._tokens, self._candidate)
