"""What a load leaves: the raw sample of each request, and the point that they make, with its figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from calibration.errors import UsageError
from calibration.load.figures import Share, percentile
from calibration.load.load import Load

CUT = "not finished when the load ended"
"""The error of a request whose answer was not waited for."""


class Figure(StrEnum):
    """What is told of requests; all in seconds."""

    TTFT = "ttft"
    """From when the request was due (open loop) or sent (closed loop) to the first chunk with a token."""
    TPOT = "tpot"
    """(last - first chunk) / (tokens - 1), a value for each request."""
    ITL = "itl"
    """The gaps between chunks, of all requests together: stalls show here."""
    E2E = "e2e"
    """From when the request was due or sent to the last token."""


class End(StrEnum):
    """Why a load ended."""

    REQUESTS = "as many requests as were asked for"
    BUDGET = "the budget"
    TRACE = "the end of the trace"
    CLEAR = "the attainment is clear of its target"
    SATURATED = "saturated"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTargets:
    """The longest times that a user accepts of one request, and the share of requests that must keep to all of them."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    share: float = 0.95
    """0.95: `p95 TTFT <= 0.5 s` holds where 95 of 100 requests have their first token after 0.5 s."""

    def __post_init__(self) -> None:
        for name, seconds in (("ttft", self.ttft_s), ("tpot", self.tpot_s), ("e2e", self.e2e_s)):
            if seconds is not None and seconds <= 0:
                raise UsageError(f"needs a target of more than 0 s for {name}; found {seconds:g}")
        if not 0 < self.share < 1:
            raise UsageError(f"needs a share of requests between 0 and 1; found {self.share:g}")

    def __bool__(self) -> bool:
        return (self.ttft_s, self.tpot_s, self.e2e_s) != (None, None, None)

    def __str__(self) -> str:
        """`TTFT <= 0.5 s, TPOT <= 0.05 s for 95 % of requests`."""
        named = (("TTFT", self.ttft_s), ("TPOT", self.tpot_s), ("E2E", self.e2e_s))
        return (
            ", ".join(f"{name} <= {s:g} s" for name, s in named if s is not None)
            + f" for {100 * self.share:g} % of requests"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request and what came of it. Times are seconds since the load began, to 10 microseconds."""

    number: int
    due_s: float | None = None
    """When it was to be sent; None in a closed loop."""
    sent_s: float
    """When its connection was begun."""
    chunks_s: tuple[float, ...] = ()
    """When each chunk with a token came. A chunk may hold several tokens."""
    prompt_tokens: int
    output_tokens: int
    """As the server counted them."""
    cached_tokens: int = 0
    """Of the prompt tokens, those that the server took from a cache of prefixes."""
    error: str = ""
    """Why there is no whole answer."""
    counted: bool = True
    """Whether it is of the sample. The others kept the load up before, meanwhile and after."""

    @property
    def asked_s(self) -> float:
        """When its user began to wait."""
        return self.sent_s if self.due_s is None else self.due_s

    @property
    def last_s(self) -> float:
        return self.chunks_s[-1]

    @property
    def ttft_s(self) -> float:
        return self.chunks_s[0] - self.asked_s

    @property
    def tpot_s(self) -> float | None:
        """None where one token was asked for. 0 where all came at once."""
        return (self.last_s - self.chunks_s[0]) / (self.output_tokens - 1) if self.output_tokens > 1 else None

    @property
    def e2e_s(self) -> float:
        return self.last_s - self.asked_s

    def keeps(self, targets: RequestTargets) -> bool:
        """Whether it was answered within all targets."""
        if self.error:
            return False
        times = ((self.ttft_s, targets.ttft_s), (self.tpot_s or 0.0, targets.tpot_s), (self.e2e_s, targets.e2e_s))
        return all(target is None or time <= target for time, target in times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A load as one launch of a server served it."""

    load: Load
    seed: int
    asked: tuple[Asked, ...]
    """All requests after the warm-up, in the order in which they were sent."""
    begin_s: float
    """Begin of the steady window: in a closed loop when every stream has had an answer, in an open loop when the first
    request of the sample is due."""
    end_s: float
    """End of it: the last request of the sample is answered; the load was kept up until then."""
    end: End
    targets: RequestTargets | None = None
    """Those by which an open loop ended."""
    saturated: str = ""
    """Why more requests come than are answered; then it was stopped, and percentiles would say only how soon."""
    void: str = ""
    """Why the figures are not to be believed; empty: they are."""
    foreign_share: float | None = None
    """Share of the cores that others than server and client used in the window; None: nobody watched."""
    client_cores: float = 0.0
    """Cores that the client used in the window."""
    peak_memory_bytes: int = 0
    """Of the server's processes in this load, looked at once a second; 0: nobody watched."""
    peak_gpu_memory_bytes: int | None = None
    text_prompts: bool = False
    """The server took no token ids: prompts were words, and about as long as asked for."""

    @property
    def sample(self) -> tuple[Asked, ...]:
        """The requests that count; failed ones too."""
        return tuple(asked for asked in self.asked if asked.counted)

    @property
    def answered(self) -> tuple[Asked, ...]:
        return tuple(asked for asked in self.sample if not asked.error)

    @property
    def window_s(self) -> float:
        return self.end_s - self.begin_s

    def values(self, figure: Figure) -> list[float]:
        """Of each request of the sample that was answered; of each gap for ITL."""
        match figure:
            case Figure.TTFT:
                return [asked.ttft_s for asked in self.answered]
            case Figure.TPOT:
                return [asked.tpot_s for asked in self.answered if asked.tpot_s is not None]
            case Figure.ITL:
                return [later - earlier for asked in self.answered for earlier, later in pairwise(asked.chunks_s)]
            case Figure.E2E:
                return [asked.e2e_s for asked in self.answered]

    def percentile(self, figure: Figure, percent: float) -> float | None:
        """None where the point is saturated, or has no such value."""
        return None if self.saturated else percentile(self.values(figure), percent)

    @property
    def output_tps(self) -> float | None:
        """Tokens a second that came in the window, of all requests; None where nothing came.

        The tokens of an answer are spread evenly over its chunks; those of one that was cut have as many a chunk as the
        others on average.
        """
        whole = [asked for asked in self.asked if not asked.error]
        chunks = sum(len(asked.chunks_s) for asked in whole)
        if not chunks or self.window_s <= 0:
            return None
        usual = sum(asked.output_tokens for asked in whole) / chunks
        tokens = 0.0
        for asked in self.asked:
            each = usual if asked.error else asked.output_tokens / len(asked.chunks_s)
            tokens += each * sum(1 for at in asked.chunks_s if self.begin_s < at <= self.end_s)
        return tokens / self.window_s

    @property
    def request_rate(self) -> float | None:
        """Requests a second whose answers ended in the window, of all requests."""
        if self.window_s <= 0:
            return None
        ended = sum(1 for a in self.asked if not a.error and self.begin_s < a.last_s <= self.end_s)
        return ended / self.window_s

    def attainment(self, targets: RequestTargets) -> Share:
        """How many requests of the sample keep to all targets; a failed one does not."""
        sample = self.sample
        return Share(kept=sum(asked.keeps(targets) for asked in sample), of=len(sample))

    def goodput(self, targets: RequestTargets) -> float | None:
        """Requests a second that keep to all targets; None where the point is saturated."""
        share, rate = self.attainment(targets).value, self.request_rate
        return None if self.saturated or share is None or rate is None else share * rate

    @property
    def send_delays_s(self) -> list[float]:
        """How late the client sent each request of an open loop's sample; this is in its TTFT, too."""
        return [asked.sent_s - asked.due_s for asked in self.sample if asked.due_s is not None]

    @property
    def failures(self) -> tuple[str, ...]:
        """The errors of the sample, but for requests that were cut when a saturated load was stopped."""
        return tuple(a.error for a in self.sample if a.error and not (self.saturated and a.error == CUT))

    @property
    def cached_share(self) -> float:
        """Share of the sample's prompt tokens that a cache of prefixes answered."""
        return _share((a.cached_tokens for a in self.answered), (a.prompt_tokens for a in self.answered))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPoint:
    """Why a load could not be measured: the server refused, was not there, or answered nothing within the budget."""

    load: Load
    reason: str


def _share(parts: Iterable[int], wholes: Iterable[int]) -> float:
    whole = sum(wholes)
    return sum(parts) / whole if whole else 0.0
