"""Streams driven by steps, with the order in which tokens came; and whether tokens were drawn as often as likely."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.backend import Engine
from calibration.engine.streams import Delta, Finish, Request, Streams

IDLE_STEPS = 3000
"""Steps without a token, each at most 0.1 s, after which streams are stuck."""


@dataclass(slots=True)
class Answer:
    """What came for one request."""

    tokens: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """For each token, with which of the steps that gave tokens it came."""
    order: list[int] = field(default_factory=list)
    """For each token, its place among the tokens of all requests."""
    finish: Finish | None = None
    message: str = ""


class Driver:
    """Owns streams as a worker does."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.answers: dict[str, Answer] = {}
        self.steps = self.tokens = 0

    def add(self, *requests: Request) -> None:
        for request in requests:
            self.streams.add(request)
            self.answers[request.id] = Answer()

    def step(self) -> None:
        """Steps until tokens come, or an end."""
        for _ in range(IDLE_STEPS):
            if deltas := self.streams.step():
                break
        else:
            raise AssertionError(f"nothing came in {IDLE_STEPS} steps")
        self.take(deltas)

    def take(self, deltas: Sequence[Delta]) -> None:
        """Put what a step gave to the answers; one that belongs to none is an error."""
        self.steps += bool(deltas)
        for delta in deltas:
            answer = self.answers[delta.id]
            assert answer.finish is None, f"a delta came for {delta.id}, which had ended"
            answer.tokens += delta.tokens
            answer.steps += [self.steps] * len(delta.tokens)
            answer.order += range(self.tokens, self.tokens + len(delta.tokens))
            self.tokens += len(delta.tokens)
            answer.finish, answer.message = delta.finish, delta.message

    def until(self, request_id: str, tokens: int) -> None:
        """Steps until a request has so many tokens."""
        while len(self.answers[request_id].tokens) < tokens:
            self.step()

    def run(self) -> Mapping[str, Answer]:
        """Steps until nothing runs."""
        while self.streams.running:
            self.step()
        return self.answers


def answered(streams: Streams, requests: Iterable[Request]) -> Mapping[str, Answer]:
    """The answers to requests that come all at once."""
    driver = Driver(streams)
    driver.add(*requests)
    return driver.run()


def asked(number: int, prompt: Sequence[int], max_tokens: int) -> Request:
    return Request(id=str(number), prompt=tuple(prompt), max_tokens=max_tokens)


def greedy_path(engine: Engine, request: Request) -> list[int]:
    """What the engine generates for the prompt alone."""
    return list(engine.generate([request.prompt], request.max_tokens).tokens[0])


def come_and_go(
    streams: Streams, prompts: Sequence[Sequence[int]], paths: Mapping[tuple[int, ...], list[int]], *, coming: float
) -> None:
    """Drawn schedules: who is cancelled has the beginning of the tokens that he would have got, the others all.

    Args:
        paths: of each prompt its greedy path, 40 tokens.
        coming: the probability that a request comes before a step.
    """
    for seed in range(20):
        draw, driver, cancelled = random.Random(seed), Driver(streams), set[str]()
        requests = [asked(n, draw.choice(prompts), draw.randint(1, 40)) for n in range(12)]
        waiting = list(requests)
        while waiting or streams.running:
            if waiting and draw.random() < coming:
                driver.add(waiting.pop(0))
            if driver.answers and draw.random() < 0.05:
                name = draw.choice(list(driver.answers))
                streams.cancel(name)
                cancelled.add(name)
            driver.take(streams.step())
        for request in requests:
            answer, path = driver.answers[request.id], paths[request.prompt][: request.max_tokens]
            assert answer.tokens == path[: len(answer.tokens)], (seed, request.id)
            assert request.id in cancelled or answer.tokens == path, (seed, request.id)


def likelihoods(scores: NDArray[np.float32], temperature: float, top_p: float) -> NDArray[np.float64]:
    """[vocab] probabilities of a row of scores; 0 outside of the smallest set of tokens that has `top_p`."""
    likely = np.exp((scores.astype(np.float64) - scores.max()) / temperature)
    likely /= likely.sum()
    order = np.argsort(-likely)
    likely[order[int(np.searchsorted(np.cumsum(likely[order]), top_p)) + 1 :]] = 0
    normalised: NDArray[np.float64] = likely / likely.sum()
    return normalised


def drawn_otherwise(drawn: Mapping[int, int], likely: NDArray[np.float64]) -> list[int]:
    """Of the five likeliest tokens those that were drawn too often or too seldom, and all that could not be drawn."""
    draws = sum(drawn.values())
    wrong = [token for token in drawn if likely[token] == 0]
    for token in np.argsort(-likely)[:5].tolist():
        spread = math.sqrt(draws * likely[token] * (1 - likely[token]))
        # Beyond 4.5 deviations by chance once in 150,000.
        if abs(drawn.get(token, 0) - draws * likely[token]) > 4.5 * spread + 1:
            wrong.append(token)
    return wrong
