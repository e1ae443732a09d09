"""Trace: requests that really came, read from the public formats: when, and how long their prompts and answers were."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from calibration.codec import LEAST
from calibration.errors import UsageError
from calibration.load.load import Lengths, Load

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in the order in which they came."""

    arrivals: tuple[Arrival, ...]
    left_out: int = 0
    """Rows without prompt or answer, as of requests that failed."""

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that name what is in it."""
        lines = "".join(f"{a.at_s:.3f} {a.prompt_tokens} {a.output_tokens}\n" for a in self.arrivals)
        return hashlib.sha256(lines.encode()).hexdigest()[:8]

    @property
    def load(self) -> Load:
        """Its label tells the least and the most of its lengths, its mean rate, and its digest."""
        prompts = [arrival.prompt_tokens for arrival in self.arrivals]
        outputs = [arrival.output_tokens for arrival in self.arrivals]
        return Load(
            prompt=Lengths(low=min(prompts), high=max(prompts)),
            output=Lengths(low=min(outputs), high=max(outputs)),
            rate=max(1e-6, round((len(self.arrivals) - 1) / self.arrivals[-1].at_s, 6)),
            trace=self.digest,
        )


def read_trace(file: Path) -> Trace:
    """Read a trace; rows may stand in any order.

    Raises:
        UsageError: it cannot be read, a row has no such fields, or fewer than two requests came at different times.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"the trace {file} cannot be read: {error}", MEND) from error
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
    if len(came) < 2 or came[0][0] == came[-1][0]:
        raise UsageError(f"the trace {file} needs two requests at different times; found {len(came)} requests", MEND)
    first = came[0][0]
    return Trace(
        arrivals=tuple(
            Arrival(at_s=round(at_s - first, 6), prompt_tokens=prompt, output_tokens=output)
            for at_s, prompt, output in came
        ),
        left_out=left_out,
    )


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
