"""The export format of the cache: JSON lines, so that measurements made elsewhere can come in.

The first line names the format; every other line is a launch, or a probe of a machine, in any order. Blank lines are
allowed:

    {"format": "autobackend-cache", "version": 5}
    {"record": "measurement", "run_id": "3f0c...", "calibration_id": "9a41...", "round": 1,
     "candidate": {"backend": "turbomind", "variant": "awq"},
     "identity": {"architecture": "Qwen2ForCausalLM", "quant": "awq-4bit-g128", "device": "NVIDIA A100-SXM4-80GB",
                  "fingerprint": "0123456789ab", "dtype": "float16", "device_count": 1, "host": "a1b2c3",
                  "config": "89abcdef01234567", "cut": ""},
     "model": "./Qwen2.5-7B-Instruct-AWQ", "environment": {"lmdeploy": "0.18.0", "torch": "2.9.1"}, "policy": "1",
     "started_at": 1789000000.0, "load_s": 41.5, "prepare_s": null, "artifact_bytes": null,
     "peak_memory_bytes": 9876543210, "gpu_memory_bytes": 71234567890,
     "agreement": {"verdict": "right", "kl": 0.0004, "top1": 0.99, "detail": "64 positions of 4 prompts"},
     "cells": [{"workload": {"prompt_tokens": 512, "output_tokens": 32, "batch": 1},
                "samples": [{"ttft_s": 0.061, "tpot_s": 0.0146, "foreign_cores": 0.0, "dirty": false}]}]}
    {"record": "check", "run_id": "b3c4...", ..., "load_s": 40.9, ..., "agreement": {"verdict": "right", ...}}
    {"record": "failure", "run_id": "77aa...", ..., "kind": "out of memory", "stage": "load",
     "message": "CUDA out of memory", "log_tail": "..."}
    {"record": "served", "run_id": "5e1f...", ..., "load_s": 2.9, ..., "slots": 8, "threads": 2,
     "as_served": {"verdict": "right", "top1": 1.0, "detail": "61 of 61 tokens of 12 requests at once are ..."},
     "points": [{"load": {"prompt": {"low": 512, "high": 512}, "output": {"low": 128, "high": 128}, "streams": 8},
                 "asked": [{"number": 8, "sent_s": 4.11, "chunks_s": [4.62, 4.66], "prompt_tokens": 512,
                            "output_tokens": 2}, ...],
                 "begin_s": 4.1, "end_s": 90.2, "end": "as many requests as were asked for", "seed": 0, ...}]}
    {"record": "unserved", "run_id": "d2d2...", ..., "kind": "crashed", "stage": "pp512:tg128:c8", ...}
    {"record": "probe", "probe_id": "c0de...", "host": "a1b2c3", "device": "AMD EPYC 7763 (zen3), 2 cores",
     "taken_at": 1789000000.0, "seconds": 14.2, "cache_bytes": 33554432, "disturbed": [], "policy": "1",
     "bandwidth_gbs": {"samples": [20.1, 20.4], "samples_of_one_core": [14.8, 15.0], "way": "int64 sum (torch)"},
     "rates": {"float32": {"samples": [170.0, 171.5], "samples_of_one_core": [86.2, 86.9], "way": "mm (torch)"}},
     "missing": {"int8": "not implemented"}, "versions": {"torch": "2.13.0"}}

(each is one line; here they are broken to be read). A check is a measurement without cells: a launch that compared the
output and timed nothing. A failure has the fields of a measurement up to `started_at`, then kind (crashed, timed out,
out of memory, refused, wrong output), stage, message and log_tail. A launch that was served under load has slots,
threads and points instead of cells, and `as_served`, the verdict on what it answered to several requests at once; one
whose server failed, or answered wrong, is unserved and has the fields of a failure. Times are seconds, sizes bytes,
`started_at` Unix time. `run_id` is a uuid4 in hex, so importing a file twice, or the files of ten hosts, gives their
union.

`fingerprint` is a hash of the model's shapes; `config` is a hash of everything in its config that can change what the
model computes. Models with the same fingerprint share their times; verdicts and failures count for the same `config`
alone. `cut` is empty for launches of the whole model, and `6/32` for launches of its first 6 layers of 32; all the rest
of their identity is the whole model's. Versions 1 to 4 are still read. Version 4 has no `as_served`. Version 3 has
nothing that was served. Version 2 has no `cut` and no probes: its launches are of the whole model. Version 1 has no
`config` and no checks either: its times count, its verdicts and failures belong to no known config.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from calibration.codec import from_plain, to_plain
from calibration.errors import CacheError
from calibration.measurement import Outcome, from_json, to_json
from calibration.probing.probe import Probe

FORMAT = "autobackend-cache"
VERSION = 5
"""An autobackend that knows older versions alone would refuse each line of a served launch: the header says so."""

PROBE = "probe"
"""What a probe is called where a launch is a measurement, a check or a failure."""

READ = (1, 2, 3, 4, VERSION)
"""The versions that this autobackend reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that holds neither a launch nor a probe."""

    number: int
    """The first line of the file is 1."""
    reason: str


def write(outcomes: Iterable[Outcome], probes: Iterable[Probe], stream: TextIO, *, of_all_hosts: bool = True) -> int:
    """Write the header, a line for each launch and a line for each probe; returns how many launches.

    Args:
        of_all_hosts: write all probes; else those of the launches' hosts.
    """
    stream.write(json.dumps({"format": FORMAT, "version": VERSION}) + "\n")
    count, hosts = 0, set[str]()
    for outcome in outcomes:
        _write_line(to_json(outcome), stream)
        count += 1
        hosts.add(outcome.identity.host)
    for probe in probes:
        if of_all_hosts or probe.host in hosts:
            _write_line({"record": PROBE, **to_plain(probe)}, stream)
    return count


def read(lines: Iterable[str]) -> Iterator[Outcome | Probe | BadLine]:
    """Read an export line by line; a line that holds neither becomes a BadLine, and the next line is read.

    Raises:
        CacheError: the first line is not the header of a version in READ.
    """
    numbered = enumerate(lines, start=1)
    _header(next(numbered, (1, ""))[1])
    for number, line in numbered:
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_no_constant)
            is_probe = isinstance(record, dict) and record.get("record") == PROBE
            yield _probe(record) if is_probe else from_json(record)
        except json.JSONDecodeError as error:
            yield BadLine(number=number, reason=f"is not JSON: {error}")
        except (ValueError, RecursionError) as error:
            yield BadLine(number=number, reason=str(error))


def _write_line(record: Mapping[str, Any], stream: TextIO) -> None:
    stream.write(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n")


def _probe(record: Mapping[str, Any]) -> Probe:
    return from_plain(Probe, {name: value for name, value in record.items() if name != "record"})


def _header(line: str) -> None:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CacheError(
            f"this is not a cache export: its first line is {line.strip()[:60]!r}",
            f'line 1 must be {{"format": "{FORMAT}", "version": {VERSION}}}; make one with: autobackend cache export',
        )
    if header.get("version") not in READ:
        readable = f"{', '.join(map(str, READ[:-1]))} and {READ[-1]}"
        raise CacheError(
            f"the export has format version {header.get('version')!r}; this autobackend reads {readable}",
            "upgrade autobackend: pip install --upgrade autobackend",
        )


def _no_constant(name: str) -> Any:
    raise ValueError(f"needs finite numbers; found {name}")
