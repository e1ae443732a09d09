"""The layer that ships with autobackend: what the hosts of results/ measured, distilled (see predict/distil.py)."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from calibration.workload import Workload
from selector.predict.known.timing import CellTimes, Host, Timing
from selector.predict.known.work import Work

FORMAT: Final = "autobackend-shipped"
VERSION: Final = 1
SHIPPED: Final = Path(__file__).parent / "shipped.json"


@cache
def shipped() -> tuple[Timing, ...]:
    """Every row of the shipped file; none where a package leaves the file out."""
    return timings_of(content()) if SHIPPED.is_file() else ()


@cache
def content() -> Mapping[str, Any]:
    """The file as it is."""
    read: Mapping[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return read


def timings_of(content: Mapping[str, Any]) -> tuple[Timing, ...]:
    """The rows of a distilled file."""
    hosts = {name: _host(name, host) for name, host in content["hosts"].items()}
    works = {name: Work(**work) for name, work in content["models"].items()}
    return tuple(
        Timing(
            host=hosts[row["host"]],
            model=row["model"],
            work=works[row["model"]],
            label=row["candidate"],
            cells={Workload.parse(label): _cell(cell) for label, cell in row["cells"].items()},
            environment=content["environments"][row["environment"]],
            output=row["output"],
            kl=row["kl"],
            memory_bytes=row["memory_mib"] << 20,
            newest=row["newest"],
            calibrations=frozenset(row["calibrations"]),
        )
        for row in content["rows"]
    )


def _host(identifier: str, host: Mapping[str, Any]) -> Host:
    return Host(
        identifier=identifier,
        kind=host["kind"],
        device=host["device"],
        cpu_name=host["cpu_name"],
        cpu_features=frozenset(host["cpu_features"]),
        cores=host["cores"],
    )


def _cell(numbers: Sequence[Any]) -> CellTimes:
    launches, ttft_s, tpot_s, ttft_spread, tpot_spread = numbers
    return CellTimes(launches=launches, ttft_s=ttft_s, tpot_s=tpot_s, ttft_spread=ttft_spread, tpot_spread=tpot_spread)
