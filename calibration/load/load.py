"""Load: how many requests come, when, and how long their prompts and answers are; its label is a workload's."""

import re
from dataclasses import dataclass, field

from calibration.errors import UsageError

_LABEL = re.compile(
    r"pp(\d{1,7})(?:-(\d{1,7}))?:tg(\d{1,7})(?:-(\d{1,7}))?:(?:c(\d{1,5})|r(\d{1,6}(?:\.\d{1,6})?)(?::t([0-9a-f]{8}))?)"
)
MEND = "write it as pp512:tg128:c8 (eight streams), pp512:tg128:r0.5 (half a request a second) or pp200-800:tg64-256:c4"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Lengths:
    """Tokens of prompts or answers: all of one length, or drawn evenly between two."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise UsageError(f"lengths need 1 <= least <= most; found {self.low}-{self.high}")

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """What a trace is beyond what its label tells."""

    name: str
    """Its file's name without the ending; for screens only."""
    requests: int
    seconds: float
    """From its first request to its last."""
    prompt_mean: float
    output_mean: float
    longest_tokens: int
    """Of its longest request together with its answer."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Load:
    """Requests to a server. Closed loop: each of `streams` sends its next one when its last answer has ended. Open
    loop: they come by chance, `rate` a second on average, whether answers have ended or not; or as a trace has them.

    One length of prompts is the length of all of them. One length of answers is their mean: see `answers`.
    """

    prompt: Lengths
    output: Lengths
    streams: int = 0
    """0: the loop is open."""
    rate: float = 0.0
    """Requests a second; 0: the loop is closed."""
    trace: str = ""
    """Digest of the trace whose arrivals and lengths are sent as they were. `prompt` and `output` are then its least
    and its most, and `rate` its mean."""
    facts: TraceFacts | None = field(default=None, compare=False)
    """Of a trace that was read; None of other loads, and of a trace that is known by its label alone. The digest names
    what is in a trace, so two loads of one trace are equal whatever its file was called."""

    def __post_init__(self) -> None:
        if (self.streams > 0) == (self.rate > 0):
            raise UsageError(
                f"a load needs streams or a rate, more than 0; found {self.streams} streams,"
                f" {self.rate:g} requests a second",
                MEND,
            )
        if self.trace and not self.rate:
            raise UsageError("a trace has arrivals of its own; found streams", MEND)

    @property
    def closed(self) -> bool:
        return self.streams > 0

    @property
    def label(self) -> str:
        """`pp512:tg128:c8`, `pp200-800:tg64-256:r0.5`, `pp7-900:tg1-300:r0.81:t0a1b2c3d`."""
        rate = f"{self.rate:.6f}".rstrip("0").rstrip(".")
        arrivals = f"c{self.streams}" if self.closed else f"r{rate}" + (f":t{self.trace}" if self.trace else "")
        return f"pp{self.prompt}:tg{self.output}:{arrivals}"

    @property
    def title(self) -> str:
        """What screens call it: the label, or `trace:azure-code 1,000 requests in 10 min` of a trace that was read."""
        facts = self.facts
        if facts is None:
            return self.label
        return f"trace:{facts.name or self.trace} {facts.requests:,} requests in {lasting(facts.seconds)}"

    @property
    def answers(self) -> Lengths:
        """What the lengths of answers are drawn from: between half and one and a half times where the label has one.

        Streams whose answers are equally long end and begin in step: on two cores the same closed loop of equal lengths
        ran now at 65 tokens a second with a median TPOT of 31 ms and now at 63 with 48 ms.

        >>> str(Load.parse("pp512:tg128:c8").answers), str(Load.parse("pp512:tg100-130:c8").answers)
        ('64-192', '100-130')
        """
        if self.output.low < self.output.high or self.trace:
            return self.output
        half = self.output.low // 2
        return Lengths(low=self.output.low - half, high=self.output.low + half)

    @property
    def prompt_mean(self) -> float:
        """Mean length of the prompts."""
        return self.facts.prompt_mean if self.facts else self.prompt.mean

    @property
    def output_mean(self) -> float:
        """Mean length of the answers."""
        return self.facts.output_mean if self.facts else self.output.mean

    @property
    def context_tokens(self) -> int:
        """Tokens of the longest sequence when its last one is generated."""
        return self.facts.longest_tokens if self.facts else self.prompt.high + self.answers.high

    @property
    def least_s(self) -> float:
        """Seconds that it takes at the least: a trace lasts as long for every server, others end by their number."""
        return self.facts.seconds if self.facts else 0.0

    @classmethod
    def knows(cls, text: str) -> bool:
        """Whether the text has the form of a label, or is a standard name."""
        return text in STANDARD or _LABEL.fullmatch(text.strip()) is not None

    @classmethod
    def parse(cls, text: str) -> "Load":
        """Read a label or a standard name.

        Raises:
            UsageError: the text is neither.

        >>> Load.parse("pp512:tg128:c8").label
        'pp512:tg128:c8'
        >>> Load.parse("pp200-800:tg64:r0.5").prompt
        Lengths(low=200, high=800)
        """
        if text in STANDARD:
            return STANDARD[text]
        label = _LABEL.fullmatch(text.strip())
        if not label:
            raise UsageError(f"unknown load {text!r}", f"{MEND}, or name one of: {', '.join(STANDARD)}")
        low, high, least, most, streams, rate, trace = label.groups()
        return cls(
            prompt=Lengths(low=int(low), high=int(high or low)),
            output=Lengths(low=int(least), high=int(most or least)),
            streams=int(streams or 0),
            rate=float(rate or 0),
            trace=trace or "",
        )


def lasting(seconds: float) -> str:
    """How long a trace lasts.

    >>> lasting(45.24), lasting(599.8), lasting(7200)
    ('45.2 s', '10 min', '2 h')
    """
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


STANDARD: dict[str, Load] = {
    "serve": Load(prompt=Lengths(low=256, high=768), output=Lengths(low=64, high=192), streams=8),
    "serve-few": Load(prompt=Lengths(low=256, high=768), output=Lengths(low=64, high=192), streams=2),
    "serve-short": Load(prompt=Lengths(low=32, high=128), output=Lengths(low=16, high=64), streams=8),
}
"""Ordinary loads under a name: chats of the length of the workload `chat` with eight and with two users, and short
questions with short answers (classification, completion)."""
