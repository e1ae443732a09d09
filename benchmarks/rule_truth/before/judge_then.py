"""Run with the code of an earlier commit: what its rules say of folders, as JSON.

`python judge_then.py WISHES`: a JSON file with the folders, and the interpreters of a host with a GPU. It prints for
each folder the reasons of every candidate, or why the folder cannot be read.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from calibration.errors import AutobackendError
from selector.host.device import Device
from selector.host.spec import HostSpec, Installation
from selector.model.spec import ModelSpec
from selector.rules.judge import judge

try:
    from selector.demand.demand import Demand
except ModuleNotFoundError:  # as it was until 2026-11-29
    from selector.demand import Demand  # type: ignore[attr-defined,no-redef]


def main() -> None:
    wishes = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    here = _quiet(HostSpec.detect())
    hosts = {False: here, True: _with_gpu(here, wishes)}
    answers = [_reasons(Path(wish["place"]), hosts[wish["gpu"]], wishes["workload"]) for wish in wishes["cases"]]
    print(json.dumps(answers))


def _quiet(host: HostSpec) -> HostSpec:
    first, *others = host.devices
    return dataclasses.replace(host, devices=(dataclasses.replace(first, free_bytes=first.memory_bytes), *others))


def _with_gpu(here: HostSpec, wishes: dict[str, Any]) -> HostSpec:
    fields = {**wishes["device"], "capability": tuple(wishes["device"]["capability"])}
    installed = {name: Installation.detect(Path(python)) for name, python in wishes["pythons"].items()}
    return dataclasses.replace(here, devices=(Device(**fields),), installations={**here.installations, **installed})


def _reasons(place: Path, host: HostSpec, workload: str) -> dict[str, list[str]] | str:
    try:
        spec = ModelSpec.read(place)
        demand = Demand.of(workloads=[workload], allow_lossy=True).for_positions(spec.max_position)
        return {
            verdict.candidate.label: [f"{reason.rule}: {reason.text}" for reason in verdict.reasons]
            for verdict in judge(spec, host, demand)
        }
    except AutobackendError as error:
        return error.message


if __name__ == "__main__":
    main()
