"""Trace: requests that really came, read from the public formats: when, and how long their prompts and answers were."""

import csv
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from calibration.codec import LEAST
from calibration.errors import UsageError
from calibration.load.load import Lengths, Load, TraceFacts

MEND = (
    "a trace is JSON lines with arrival_s, prompt_tokens and output_tokens, or with Mooncake's timestamp,"
    " input_length and output_length; or a CSV file with BurstGPT's or Azure's columns"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request that came."""

    at_s: float
    """Since the first one."""
    prompt_tokens: int = field(metadata={LEAST: 1})
    output_tokens: int = field(metadata={LEAST: 1})

    @property
    def tokens(self) -> int:
        """Of the prompt and of the answer."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in the order in which they came: two or more, not all at one time."""

    arrivals: tuple[Arrival, ...]
    left_out: int = 0
    """Rows without prompt or answer, as of requests that failed."""
    name: str = field(default="", compare=False)
    """Its file's name without the ending."""

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that name what is in it."""
        return hashlib.sha256("".join(map(_line, self.arrivals)).encode()).hexdigest()[:8]

    @property
    def seconds(self) -> float:
        """From its first request to its last."""
        return self.arrivals[-1].at_s

    @property
    def load(self) -> Load:
        """Its label tells the least and the most of its lengths, its mean rate, and its digest."""
        prompts = [arrival.prompt_tokens for arrival in self.arrivals]
        outputs = [arrival.output_tokens for arrival in self.arrivals]
        return Load(
            prompt=Lengths(low=min(prompts), high=max(prompts)),
            output=Lengths(low=min(outputs), high=max(outputs)),
            rate=max(1e-6, round((len(self.arrivals) - 1) / self.seconds, 6)),
            trace=self.digest,
            facts=TraceFacts(
                name=self.name,
                requests=len(self.arrivals),
                seconds=self.seconds,
                prompt_mean=round(sum(prompts) / len(prompts), 3),
                output_mean=round(sum(outputs) / len(outputs), 3),
                longest_tokens=max(arrival.tokens for arrival in self.arrivals),
            ),
        )

    def longest_beginning(self, digests: Collection[str]) -> str:
        """Of these digests the one of its longest beginning; empty where none of them is of one."""
        longest, hashed = "", hashlib.sha256()
        for arrival in self.arrivals:
            hashed.update(_line(arrival).encode())
            digest = hashed.copy().hexdigest()[:8]
            longest = digest if digest in digests else longest
        return longest


def read_trace(file: Path) -> Trace:
    """Read a trace; rows may stand in any order.

    Raises:
        UsageError: it cannot be read, a row has no such fields, or fewer than two requests came at different times.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"the trace {file} cannot be read: {error.strerror}", "name a file of requests") from error
    except ValueError as error:
        raise UsageError(f"the trace {file} is no text: {error}", MEND) from error
    rows = _json_rows(file, text) if text.lstrip().startswith("{") else enumerate(csv.DictReader(text.splitlines()), 2)
    came: list[tuple[float, int, int]] = []
    left_out = 0
    for number, row in rows:
        at_s, prompt_tokens, output_tokens = _arrival(row, f"{file}, line {number}")
        if prompt_tokens < 1 or output_tokens < 1:
            left_out += 1
        else:
            came.append((at_s, prompt_tokens, output_tokens))
    came.sort(key=lambda arrival: arrival[0])
    if len(came) < 2 or round(came[-1][0] - came[0][0], 5) <= 0:
        raise UsageError(f"the trace {file} needs two requests at different times; found {len(came)} requests", MEND)
    first = came[0][0]
    return Trace(
        arrivals=tuple(
            # As exact as a launch keeps when a request was due, so that a trace can be read back from a launch.
            Arrival(at_s=round(at_s - first, 5), prompt_tokens=prompt, output_tokens=output)
            for at_s, prompt, output in came
        ),
        left_out=left_out,
        name=file.stem,
    )


def _line(arrival: Arrival) -> str:
    """What the digest is of."""
    return f"{arrival.at_s:.3f} {arrival.prompt_tokens} {arrival.output_tokens}\n"


def _date_s(text: Any) -> float:
    return datetime.fromisoformat(str(text)).timestamp()


_FORMATS: tuple[tuple[str, str, str, Callable[[Any], float]], ...] = (
    ("arrival_s", "prompt_tokens", "output_tokens", float),
    # Mooncake, https://github.com/kvcache-ai/Mooncake: milliseconds
    ("timestamp", "input_length", "output_length", lambda milliseconds: float(milliseconds) / 1e3),
    # BurstGPT, https://github.com/HPMLL/BurstGPT: seconds; failed requests have no response tokens
    ("Timestamp", "Request tokens", "Response tokens", float),
    # Azure's traces of 2023 and 2024, https://github.com/Azure/AzurePublicDataset: dates
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens", _date_s),
)
"""Names of the fields for arrival, prompt and answer, and what makes seconds of an arrival."""


def _arrival(row: Mapping[str, Any], where: str) -> tuple[float, int, int]:
    for at, prompt, output, seconds in _FORMATS:
        if at in row and prompt in row and output in row:
            try:
                return seconds(row[at]), int(row[prompt]), int(row[output])
            except (TypeError, ValueError) as error:
                raise UsageError(f"{where}: {error}", MEND) from error
    raise UsageError(f"{where}: needs an arrival with prompt and output tokens; found {', '.join(map(str, row))}", MEND)


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UsageError(f"{file}, line {number}: {error}", MEND) from error
            if not isinstance(row, dict):
                raise UsageError(f"{file}, line {number}: needs an object; found {line:.40}", MEND)
            yield number, row
