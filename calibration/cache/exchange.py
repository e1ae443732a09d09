"""The export format of the cache: JSON lines, so that measurements made elsewhere can come in.

The first line says what it is, every other line is one launch, in any order; blank lines are allowed:

    {"format": "autobackend-cache", "version": 1}
    {"record": "measurement", "run_id": "3f0c...", "calibration_id": "9a41...", "round": 1,
     "candidate": {"backend": "turbomind", "variant": "awq"},
     "identity": {"architecture": "Qwen2ForCausalLM", "quant": "awq-4bit-g128", "device": "NVIDIA A100-SXM4-80GB",
                  "fingerprint": "0123456789ab", "dtype": "float16", "device_count": 1, "host": "a1b2c3"},
     "model": "./Qwen2.5-7B-Instruct-AWQ", "environment": {"lmdeploy": "0.18.0", "torch": "2.9.1"}, "policy": "1",
     "started_at": 1789000000.0, "load_s": 41.5, "prepare_s": null, "artifact_bytes": null,
     "peak_memory_bytes": 9876543210, "gpu_memory_bytes": 71234567890,
     "agreement": {"verdict": "right", "kl": 0.0004, "top1": 0.99, "detail": "64 positions of 4 prompts"},
     "cells": [{"workload": {"prompt_tokens": 512, "output_tokens": 32, "batch": 1},
                "samples": [{"ttft_s": 0.061, "tpot_s": 0.0146, "foreign_cores": 0.0, "dirty": false}]}]}
    {"record": "failure", "run_id": "77aa...", ..., "kind": "out of memory", "stage": "load",
     "message": "CUDA out of memory", "log_tail": "..."}

(broken here to be read; each is one line). A failure has the fields of a measurement up to `started_at`, then kind
(crashed, timed out, out of memory, refused, wrong output), stage, message and log_tail. Times are seconds, sizes bytes,
`started_at` Unix time. `run_id` is a uuid4 in hex: to import a file twice, or the files of ten hosts, is a union.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from calibration.errors import CacheError
from calibration.measurement import Outcome, from_json, to_json

FORMAT = "autobackend-cache"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that no launch could be read from."""

    number: int
    """The first line of the file is 1."""
    reason: str


def write(outcomes: Iterable[Outcome], stream: TextIO) -> int:
    """Write the header and a line for each launch; returns how many."""
    stream.write(json.dumps({"format": FORMAT, "version": VERSION}) + "\n")
    count = 0
    for outcome in outcomes:
        stream.write(json.dumps(to_json(outcome), separators=(",", ":"), allow_nan=False) + "\n")
        count += 1
    return count


def read(lines: Iterable[str]) -> Iterator[Outcome | BadLine]:
    """Read an export, line by line; a bad line is said and the next one read.

    Raises:
        CacheError: the first line is not the header of a version that is known here.
    """
    numbered = enumerate(lines, start=1)
    _header(next(numbered, (1, ""))[1])
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            yield from_json(json.loads(line, parse_constant=_no_constant))
        except json.JSONDecodeError as error:
            yield BadLine(number=number, reason=f"no JSON: {error}")
        except (ValueError, RecursionError) as error:
            yield BadLine(number=number, reason=str(error))


def _header(line: str) -> None:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CacheError(
            f"this is no export of a cache: its first line is {line.strip()[:60]!r}",
            f'line 1 must be {{"format": "{FORMAT}", "version": {VERSION}}}; make one with: autobackend cache export',
        )
    if header.get("version") != VERSION:
        raise CacheError(
            f"the export has format version {header.get('version')!r}; this autobackend reads {VERSION}",
            "upgrade autobackend: pip install --upgrade autobackend",
        )


def _no_constant(name: str) -> Any:
    raise ValueError(f"needs finite numbers; found {name}")
