"""Objective: what an answer is to be best at, and how a candidate is valued by it."""

from collections.abc import Callable
from enum import StrEnum
from math import inf
from typing import Protocol, Self

from calibration.errors import UsageError


class Measured(Protocol):
    """What an objective values of a candidate, and of one launch under load; ranking.Ranked is one."""

    @property
    def ttft_s(self) -> float: ...
    @property
    def e2e_s(self) -> float: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def output_tps(self) -> float: ...
    @property
    def goodput_rps(self) -> float: ...


def _each(rate: float) -> float:
    """Seconds for each, at so many a second."""
    return 1.0 / rate if rate else inf


class Objective(StrEnum):
    """What an answer is to be best at. A member says all that anybody asks of it.

    In order: its word on the command line; a sentence; how the answer is told; the unit in which values are told; the
    value of a candidate, of which less is better; the same of one launch by its (TTFT, E2E), up to a factor that all
    launches share, None where launches hardly vary.
    """

    sentence: str
    told: str
    """`answers {workload} in {value}`."""
    unit: str
    """`s` or `bytes`; or `tok/s` or `req/s`, of which more is better: their values are seconds per token and per
    request, told the other way round."""
    of: Callable[[Measured], float]
    of_launch: Callable[[float, float], float] | None

    LATENCY = (
        "latency",
        "seconds end to end",
        "answers {workload} in {value}",
        "s",
        lambda ranked: ranked.e2e_s,
        lambda _, e2e_s: e2e_s,
    )
    TTFT = (
        "ttft",
        "seconds to the first token; of a load those that 95 of 100 requests keep",
        "gives the first token of {workload} after {value}",
        "s",
        lambda ranked: ranked.ttft_s,
        lambda ttft_s, _: ttft_s,
    )
    THROUGHPUT = (
        "throughput",
        "output tokens a second of all sequences of the workload, prefill included; more is better",
        "generates {value} of {workload}",
        "tok/s",
        lambda ranked: _each(ranked.output_tps),
        lambda _, e2e_s: e2e_s,
    )
    GOODPUT = (
        "goodput",
        "requests a second of a load that meet --ttft and --tpot; more is better",
        "answers {value} of {workload} within its targets",
        "req/s",
        lambda ranked: _each(ranked.goodput_rps),
        lambda _, e2e_s: e2e_s,
    )
    MEMORY = (
        "memory",
        "peak memory of the process tree, or of the GPU",
        "answers {workload} with {value} of memory",
        "bytes",
        lambda ranked: float(ranked.memory_bytes),
        None,
    )

    def __new__(
        cls,
        word: str,
        sentence: str,
        told: str,
        unit: str,
        of: Callable[[Measured], float],
        of_launch: Callable[[float, float], float] | None,
    ) -> Self:
        """A member, of the fields that the class's docstring names."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence, member.told, member.unit, member.of, member.of_launch = sentence, told, unit, of, of_launch
        return member

    @property
    def good(self) -> str:
        """The word in `as fast as`."""
        return _GOOD[self.unit]

    @property
    def better(self) -> str:
        """The word in `1.7 times faster than`."""
        return _BETTER[self.unit]

    @property
    def measure(self) -> str:
        """The word in `1.7 times as much time`."""
        return _MEASURE[self.unit]

    @classmethod
    def parse(cls, word: str) -> "Objective":
        """Raises UsageError for an unknown word."""
        for member in cls:
            if member == word:
                return member
        raise UsageError(f"unknown objective {word!r}", f"known are: {', '.join(cls)}")


_GOOD = {"s": "fast", "bytes": "little", "tok/s": "fast", "req/s": "good"}
_MEASURE = {"s": "time", "bytes": "memory", "tok/s": "time", "req/s": "time"}
_BETTER = {"s": "faster", "bytes": "less", "tok/s": "faster", "req/s": "better"}
