"""Traffic: how long prompts and answers were, and how many requests ran at once; never what they said."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from calibration.errors import CacheError
from calibration.load.load import Lengths, Load
from calibration.whole_file import write_whole

FORMAT = 1
DIGITS = 2
"""Lengths are kept to so many digits: 1,234 tokens count as 1,200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What came for one model, in all runs of its server on this machine."""

    since: float
    """Unix time at which the first run began."""
    until: float
    requests: int
    prompt_tokens: Mapping[int, int]
    """Length: number of requests."""
    output_tokens: Mapping[int, int]
    running_s: Mapping[int, float]
    """Requests at once: seconds."""
    candidates: Mapping[str, int]
    """Who answered: number of requests."""

    @property
    def prompt_median(self) -> int:
        return _median(self.prompt_tokens)

    @property
    def output_median(self) -> int:
        return _median(self.output_tokens)

    @property
    def load(self) -> Load:
        """What stands for them all: the medians, and the mean number at once as streams."""
        prompt, output = self.prompt_median, self.output_median
        return Load(
            prompt=Lengths(low=prompt, high=prompt),
            output=Lengths(low=output, high=output),
            streams=max(1, round(self.at_once)),
        )

    @property
    def candidate(self) -> str:
        """Who answered the most."""
        return max(self.candidates, key=lambda label: self.candidates[label])

    @property
    def at_once(self) -> float:
        """Mean number of requests at once, of the time in which there were any."""
        busy = {count: seconds for count, seconds in self.running_s.items() if count > 0}
        total_s = sum(busy.values())
        return sum(count * seconds for count, seconds in busy.items()) / total_s if total_s else 1.0

    def __add__(self, other: "Observed") -> "Observed":
        return Observed(
            since=min(self.since, other.since),
            until=max(self.until, other.until),
            requests=self.requests + other.requests,
            prompt_tokens=_sum(self.prompt_tokens, other.prompt_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
            running_s=_sum(self.running_s, other.running_s),
            candidates=_sum(self.candidates, other.candidates),
        )

    def to_plain(self) -> dict[str, Any]:
        """As the file keeps it."""
        return {
            "since": self.since,
            "until": self.until,
            "requests": self.requests,
            "prompt_tokens": {str(length): count for length, count in sorted(self.prompt_tokens.items())},
            "output_tokens": {str(length): count for length, count in sorted(self.output_tokens.items())},
            "running_s": {str(count): round(seconds, 3) for count, seconds in sorted(self.running_s.items())},
            "candidates": dict(self.candidates),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Observed":
        """Read what `to_plain` wrote.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: something else wrote it.
        """
        return cls(
            since=float(plain["since"]),
            until=float(plain["until"]),
            requests=int(plain["requests"]),
            prompt_tokens={int(length): int(count) for length, count in plain["prompt_tokens"].items()},
            output_tokens={int(length): int(count) for length, count in plain["output_tokens"].items()},
            running_s={int(count): float(seconds) for count, seconds in plain["running_s"].items()},
            candidates={str(label): int(count) for label, count in plain["candidates"].items()},
        )


@dataclass(slots=True, kw_only=True)
class Traffic:
    """What comes while a server runs."""

    candidate: str
    """That answers now; it may be changed."""
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _prompts: "Counter[int]" = field(default_factory=Counter)
    _outputs: "Counter[int]" = field(default_factory=Counter)
    _running_s: dict[int, float] = field(default_factory=dict)
    _requests: "Counter[str]" = field(default_factory=Counter)
    """By candidate."""
    _now_running: int = 0
    _changed_at: float = field(init=False)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._changed_at, self._since = self.clock(), self.wall()

    def running(self, count: int) -> None:
        """From now on so many requests run."""
        now = self.clock()
        spent = self._running_s.get(self._now_running, 0.0) + now - self._changed_at
        self._running_s[self._now_running], self._changed_at, self._now_running = spent, now, count

    def answered(self, prompt_tokens: int, output_tokens: int, candidate: str = "") -> None:
        """A request ended.

        Args:
            candidate: that answered; by default the one that answers now.
        """
        self._requests[candidate or self.candidate] += 1
        self._prompts[_rounded(prompt_tokens)] += 1
        self._outputs[_rounded(max(1, output_tokens))] += 1

    def take(self) -> Observed | None:
        """What came since it was last taken; None where no request has ended."""
        self.running(self._now_running)
        if not self._requests:
            return None
        taken = self._observed()
        self._since = self.wall()
        self._requests.clear()
        for counts in (self._prompts, self._outputs, self._running_s):
            counts.clear()
        return taken

    def _observed(self) -> Observed:
        return Observed(
            since=self._since,
            until=self.wall(),
            requests=self._requests.total(),
            prompt_tokens=dict(self._prompts),
            output_tokens=dict(self._outputs),
            running_s=dict(self._running_s),
            candidates=dict(self._requests),
        )


def traffic_file(cache: str) -> Path:
    """Where traffic is kept: beside the cache; of a cache that is no file, in the user's data folder.

    Args:
        cache: Cache.location, or Cache.address
    """
    if "://" in cache:
        return platformdirs.user_data_path("autobackend") / "traffic.json"
    path = Path(cache)
    return path.with_name(f"{path.stem}.traffic.json")


def keep(path: Path, model: str, observed: Observed) -> None:
    """Add what came to what is kept.

    Raises:
        CacheError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(path.name + ".lock")):
            kept = _read(path)
            before = kept.get(_name(model))
            kept[_name(model)] = before + observed if before else observed
            models = {name: of_model.to_plain() for name, of_model in kept.items()}
            write_whole(path, json.dumps({"format": FORMAT, "models": models}, indent=1) + "\n")
    except OSError as error:
        raise CacheError(f"{path} cannot be written: {error.strerror or error}") from error


def kept(path: Path, model: str) -> Observed | None:
    """What came for a model so far; None: nothing, or nothing that can be read."""
    return _read(path).get(_name(model))


def _read(path: Path) -> dict[str, Observed]:
    """By model; what cannot be read is as if it were not there."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return {name: Observed.from_plain(of_model) for name, of_model in plain["models"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _name(model: str) -> str:
    """A folder or file under its whole path, everything else as the user names it."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def _rounded(tokens: int) -> int:
    """A length to DIGITS digits.

    >>> [_rounded(tokens) for tokens in (7, 43, 128, 1234, 98765)]
    [7, 43, 130, 1200, 99000]
    """
    step: int = 10 ** max(0, len(str(tokens)) - DIGITS)
    return round(tokens / step) * step


def _median(counts: Mapping[int, int]) -> int:
    """The length that half of the requests do not exceed; 1 where there are none.

    >>> _median({100: 2, 500: 3})
    500
    """
    half, passed = sum(counts.values()) / 2, 0
    for length, count in sorted(counts.items()):
        passed += count
        if passed >= half:
            return length
    return 1


def _sum(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in {**left, **right}}
