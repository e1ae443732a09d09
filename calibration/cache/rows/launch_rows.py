"""A launch as a row of the cache's one table, and back. Standard library only."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any

from calibration.cache.rows.point_rows import packed, unpacked
from calibration.measurement import (
    NOT_AS_SERVED,
    RECORDS,
    Agreement,
    Answered,
    Candidate,
    Cell,
    Check,
    Failure,
    FailureKind,
    Identity,
    Measurement,
    Outcome,
    OutputVerdict,
    Sample,
    Served,
    Unserved,
)
from calibration.workload import Workload

COLUMNS = (
    *("run_id", "calibration_id", "round", "backend", "variant"),
    *("architecture", "quant", "device", "fingerprint", "dtype", "device_count", "host", "config", "cut"),
    *("model", "environment", "policy", "started_at", "record"),
    *("load_s", "prepare_s", "artifact_bytes", "peak_memory_bytes", "gpu_memory_bytes", "agreement", "cells"),
    *("kind", "stage", "message", "log_tail"),
    *("slots", "threads", "points", "as_served"),
)
"""The columns of the table, in the order in which `outcome` unpacks them."""

_FAILURES: Mapping[str, type[Failure]] = {"failure": Failure, "unserved": Unserved}

_json = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode


def row(outcome: Outcome) -> dict[str, Any]:
    """Column values of a launch; JSON texts for environment, agreement and cells.

    Cells are `[["pp64:tg32:b1", [[ttft_s, tpot_s, foreign_cores, dirty], ...]], ...]`, with all raw samples: a tenth of
    the room that names for every figure would take. Points: see point_rows.

    Raises:
        ValueError: a sample is no finite number.
    """
    identity = outcome.identity
    values: dict[str, Any] = dict.fromkeys(COLUMNS) | {
        "run_id": outcome.run_id,
        "calibration_id": outcome.calibration_id,
        "round": outcome.round,
        "backend": outcome.candidate.backend,
        "variant": outcome.candidate.variant,
        "architecture": _text(identity.architecture),
        "quant": identity.quant,
        "device": _text(identity.device),
        "fingerprint": identity.fingerprint,
        "dtype": identity.dtype,
        "device_count": identity.device_count,
        "host": _text(identity.host),
        "config": identity.config,
        "cut": identity.cut,
        "model": _text(outcome.model),
        "environment": _json(outcome.environment),
        "policy": outcome.policy,
        "started_at": float(outcome.started_at),
    }
    match outcome:
        case Measurement():
            cells = [
                [c.workload.label, [[s.ttft_s, s.tpot_s, s.foreign_cores, s.dirty] for s in c.samples]]
                for c in outcome.cells
            ]
            values |= {"record": "measurement", **_answered(outcome), "cells": _json(cells)}
        case Check():
            values |= {"record": "check", **_answered(outcome)}
        case Served():
            values |= {
                "record": "served",
                **_answered(outcome),
                "slots": outcome.slots,
                "threads": outcome.threads,
                "points": packed(outcome.points),
                "as_served": _packed(outcome.as_served),
            }
        case Failure():
            values |= {
                "record": "unserved" if isinstance(outcome, Unserved) else "failure",
                "kind": str(outcome.kind),
                "stage": outcome.stage,
                "message": _text(outcome.message),
                "log_tail": _text(outcome.log_tail),
            }
    return values


def outcome(row: Sequence[Any]) -> Outcome:
    """Read a row: the values of COLUMNS, in that order.

    Raises:
        ValueError, TypeError, KeyError: the row is malformed; who looks up leaves it out.
    """
    # By position, and equal parts made once: a selection reads dozens of rows in a fraction of a millisecond.
    (run_id, calibration_id, round_, backend, variant, *key, model, environment, policy, started_at, record) = row[:19]
    load_s, prepare_s, artifact_bytes, peak_memory, gpu_memory, agreement, cells, kind, stage, message, log = row[19:30]
    slots, threads, points, as_served = row[30:]
    if type(started_at) is not float or type(round_) is not int:
        raise TypeError(f"run {run_id}: needs a start time and a round; found {started_at!r}, {round_!r}")
    head: dict[str, Any] = {
        "run_id": run_id,
        "calibration_id": calibration_id,
        "round": round_,
        "candidate": _candidate(backend, variant),
        "identity": _identity(*key),
        "model": model,
        "environment": dict(_environment(environment)),
        "policy": policy,
        "started_at": started_at,
    }
    if record in _FAILURES:
        return _FAILURES[record](**head, kind=FailureKind(kind), stage=stage, message=message, log_tail=log)
    if record not in {"measurement", "check", "served"}:
        raise ValueError(f"run {run_id}: a record is one of {', '.join(RECORDS)}; found {record!r}")
    if type(load_s) is not float or type(peak_memory) is not int:
        raise TypeError(f"run {run_id}: needs a load time and a peak memory; found {load_s!r}, {peak_memory!r}")
    answered: dict[str, Any] = head | {
        "load_s": load_s,
        "peak_memory_bytes": peak_memory,
        "agreement": _agreement(agreement),
        "prepare_s": prepare_s,
        "artifact_bytes": artifact_bytes,
        "gpu_memory_bytes": gpu_memory,
    }
    if record == "check":
        return Check(**answered)
    if record == "served":
        if type(slots) is not int or type(threads) is not int:
            raise TypeError(f"run {run_id}: needs slots and threads; found {slots!r}, {threads!r}")
        # Rows from before it was compared have none.
        told = NOT_AS_SERVED if as_served is None else _agreement(as_served)
        return Served(**answered, slots=slots, threads=threads, points=unpacked(points), as_served=told)
    return Measurement(**answered, cells=tuple([_cell(label, samples) for label, samples in json.loads(cells)]))


def _answered(outcome: Answered) -> dict[str, Any]:
    """The columns that a measurement and a check share."""
    return {
        "load_s": float(outcome.load_s),
        "prepare_s": outcome.prepare_s,
        "artifact_bytes": outcome.artifact_bytes,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "gpu_memory_bytes": outcome.gpu_memory_bytes,
        "agreement": _packed(outcome.agreement),
    }


def _packed(agreement: Agreement) -> str:
    """A verdict as the text that `_agreement` reads."""
    # JSON knows no infinity: an infinite divergence is stored as none; the verdict, wrong, says the rest.
    kl = agreement.kl if isfinite(agreement.kl or 0.0) else None
    max_diff = agreement.max_diff if isfinite(agreement.max_diff or 0.0) else None
    return _json([str(agreement.verdict), kl, agreement.top1, _text(agreement.detail), max_diff])


def _cell(label: str, samples: list[list[Any]]) -> Cell:
    read = []
    for ttft, tpot, foreign, dirty in samples:
        # `row` writes floats; another program may have written the file.
        if type(ttft) is not float or (type(tpot) is not float and tpot is not None) or type(dirty) is not bool:
            raise TypeError(f"a sample of {label} is no time: {ttft!r}, {tpot!r}")
        read.append(Sample(ttft_s=ttft, tpot_s=tpot, foreign_cores=foreign, dirty=dirty))
    if not read:
        raise ValueError(f"{label} has no samples")
    return Cell(workload=_workload(label), samples=tuple(read))


@lru_cache(1024)
def _workload(label: str) -> Workload:
    return Workload.parse(label)


@lru_cache(1024)
def _candidate(backend: str, variant: str) -> Candidate:
    return Candidate(backend=backend, variant=variant)


@lru_cache(1024)
def _identity(*key: Any) -> Identity:
    architecture, quant, device, fingerprint, dtype, device_count, host, config, cut = key
    return Identity(
        architecture=architecture,
        quant=quant,
        device=device,
        fingerprint=fingerprint,
        dtype=dtype,
        device_count=int(device_count),
        host=host,
        config=config,
        cut=cut,
    )


@lru_cache(1024)
def _environment(text: str) -> Mapping[str, str]:
    environment = json.loads(text)
    if type(environment) is not dict:
        raise TypeError(f"needs an object as environment; found {text!r:.40}")
    return {str(name): str(version) for name, version in environment.items()}


@lru_cache(1024)
def _agreement(text: str) -> Agreement:
    # Rows from before the largest difference was kept have four entries.
    verdict, kl, top1, detail, *max_diff = json.loads(text)
    return Agreement(
        verdict=OutputVerdict(verdict), kl=kl, top1=top1, detail=detail, max_diff=max_diff[0] if max_diff else None
    )


def _text(text: str) -> str:
    """A text that every database can store: stray bytes of an engine's log (lone surrogates) and NULs are replaced."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
