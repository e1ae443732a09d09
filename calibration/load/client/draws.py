"""What a seed draws: when each request of a load is due, how long it is, and a prompt that shares no beginning."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calibration.load.load import Lengths, Load
from calibration.load.trace import Arrival
from calibration.worker.prompts import prompts

_WORDS = (
    "time people water house small world river morning garden music paper window summer winter letter market silver"
    " doctor mother father sister brother school village kitchen table bread flower mountain forest island ocean bridge"
    " castle picture story number color circle square engine signal planet season memory language question nature"
    " history science travel weather machine building country street station dinner friend animal yellow purple"
).split()
"""Common words, most of them one token in most vocabularies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A request that is to be sent."""

    number: int
    """Counts all requests of the load from 0."""
    prompt_tokens: int
    output_tokens: int
    due_s: float | None = None
    """When it is to be sent, since the load's begin; None in a closed loop."""


def plan(load: Load, seed: str, arrivals: Sequence[Arrival] = ()) -> Iterator[Planned]:
    """The requests of a load, without an end; those of a trace as it has them.

    They depend on the load and the seed alone, so that all engines get the same requests, and in an open loop at the
    same times. They are drawn before anything is sent: an engine that is slow gets no fewer.

    Args:
        arrivals: those of the trace, where the load is one.
    """
    if load.trace:
        for number, came in enumerate(arrivals):
            yield Planned(
                number=number, prompt_tokens=came.prompt_tokens, output_tokens=came.output_tokens, due_s=came.at_s
            )
        return
    lengths, gaps = random.Random(f"{seed} lengths"), random.Random(f"{seed} arrivals")
    number, due_s = 0, 0.0
    while True:
        if not load.closed:
            due_s += gaps.expovariate(load.rate)  # gaps of a Poisson process
        yield Planned(
            number=number,
            prompt_tokens=_drawn(load.prompt, lengths),
            output_tokens=_drawn(load.answers, lengths),
            due_s=None if load.closed else due_s,
        )
        number += 1


def prompt_ids(seed: str, number: int, length: int, vocab_size: int) -> list[int]:
    """A prompt of random token ids: no two begin alike, so that no cache of prefixes answers for the engine."""
    [ids] = prompts(f"{seed} {number}", vocab_size, length, 1)
    return ids


def prompt_text(seed: str, number: int, words: int) -> str:
    """The same as words, for a server that takes no token ids."""
    return " ".join(random.Random(f"{seed} {number}").choices(_WORDS, k=words))


@dataclass(slots=True)
class Words:
    """How many words make a prompt of so many tokens: a line through what the warm-up was told."""

    base: float = 0.0
    each: float = 1.0

    def learn(self, told: list[tuple[int, int]]) -> None:
        """From (words, prompt tokens) of several prompts."""
        (few, least), (many, most) = min(told), max(told)
        self.each = max(0.1, (most - least) / (many - few) if many > few else most / many)
        self.base = most - self.each * many

    def of(self, tokens: int) -> int:
        return max(1, round((tokens - self.base) / self.each))


def _drawn(lengths: Lengths, draw: random.Random) -> int:
    return draw.randint(lengths.low, lengths.high)
