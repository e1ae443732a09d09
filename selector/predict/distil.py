"""Distil results/ into the file that ships with autobackend: `python -m selector.predict.distil results`."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.errors import CacheError, ModelError
from calibration.measurement import Measurement, from_json
from calibration.whole_file import write_whole
from selector.model.files.shape_library import PREFIX
from selector.model.spec import ModelSpec
from selector.predict.known.shipped import FORMAT, SHIPPED, VERSION, timings_of
from selector.predict.known.timing import CellTimes, cell_times
from selector.predict.known.work import Work
from selector.predict.times.times import Observed
from selector.predict.times.variances import estimate

_DIGITS = 4
"""Significant digits of a time: a launch is known to some per cent."""


def main(arguments: Sequence[str]) -> int:
    """Write the shipped file anew from the folder that `autobackend publish` wrote."""
    [results] = arguments
    content = distil(Path(results))
    content["variances"] = variances_of(content)
    write_whole(SHIPPED, text_of(content), mode=0o644)
    return 0


def distil(results: Path) -> dict[str, Any]:
    """The content of the shipped file: medians by host, model, candidate, environment and cell.

    Only models whose shape ships with autobackend are taken: of the others nobody else has the config.

    Raises:
        CacheError: a host's file is not what `autobackend publish` writes.
    """
    hosts: dict[str, Any] = {}
    models: dict[str, Work] = {}
    environments: list[dict[str, str]] = []
    rows: list[dict[str, Any]] = []
    for path in sorted((results / "hosts").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            host = content["host"]
            hosts[str(host["identifier"])] = {**_host(host), "published_at": round(float(content["published_at"]))}
            outcomes = [from_json(record) for record in content["records"]]
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path} is not a host's results: {error}", "move the file away") from error
        groups: dict[tuple[str, str, int], list[Measurement]] = {}
        for outcome in outcomes:
            if not isinstance(outcome, Measurement) or not _ships(outcome, models):
                continue
            if outcome.environment not in environments:
                environments.append(outcome.environment)
            key = outcome.model, outcome.candidate.label, environments.index(outcome.environment)
            groups.setdefault(key, []).append(outcome)
        rows += [_row(str(host["identifier"]), key, launches) for key, launches in sorted(groups.items())]
    return {
        "format": FORMAT,
        "version": VERSION,
        "hosts": hosts,
        "models": {name: models[name].to_json() for name in sorted(models)},
        "environments": environments,
        "rows": rows,
    }


def variances_of(content: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The variances of the model of times, estimated from the rows."""
    return estimate(Observed.of(timings_of(content)))


def text_of(content: Mapping[str, Any]) -> str:
    """JSON with a line for each host, model, environment and row, so that a change is seen in a diff."""
    lines = []
    for name, value in content.items():
        if isinstance(value, dict) and value:
            inside = ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items())
            lines.append(f" {json.dumps(name)}: {{\n{inside}\n }}")
        elif isinstance(value, list) and value:
            inside = ",\n".join(f"  {json.dumps(item)}" for item in value)
            lines.append(f" {json.dumps(name)}: [\n{inside}\n ]")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _host(host: Mapping[str, Any]) -> dict[str, Any]:
    device = host["devices"][0]
    return {
        "kind": device["kind"],
        "device": device["name"],
        **{key: host[key] for key in ("cpu_name", "cpu_model", "cpu_features", "cores", "memory_bytes")},
    }


def _ships(outcome: Measurement, models: dict[str, Work]) -> bool:
    """Whether the launch was of a shape that ships as it is today; fills `models`."""
    if not outcome.model.startswith(PREFIX):
        return False
    if outcome.model not in models:
        try:
            models[outcome.model] = Work.of(ModelSpec.read(outcome.model))
        except ModelError:
            return False
    return models[outcome.model].fingerprint == outcome.identity.fingerprint and not outcome.identity.cut


def _row(host: str, key: tuple[str, str, int], launches: Sequence[Measurement]) -> dict[str, Any]:
    model, label, environment = key
    last = launches[-1]
    return {
        "host": host,
        "model": model,
        "candidate": label,
        "environment": environment,
        "output": str(last.agreement.verdict),
        "kl": _rounded(last.agreement.kl),
        "memory_mib": max(launch.gpu_memory_bytes or launch.peak_memory_bytes for launch in launches) >> 20,
        "newest": round(max(launch.started_at for launch in launches)),
        "calibrations": sorted({launch.calibration_id[:8] for launch in launches}),
        "cells": {workload.label: _cell(times) for workload, times in cell_times(launches).items()},
    }


def _cell(times: CellTimes) -> list[float | None]:
    numbers: Iterable[float | None] = (times.ttft_s, times.tpot_s, times.ttft_spread, times.tpot_spread)
    return [times.launches, *map(_rounded, numbers)]


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.{_DIGITS}g}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
