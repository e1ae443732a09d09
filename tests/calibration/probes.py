"""Probes of machines, numbered: equal numbers are equal probes."""

from dataclasses import replace
from typing import Any

from calibration.probing.probe import Probe, Reached
from tests.calibration.launches import IDENTITY

GIVEN = Probe(
    probe_id="0" * 32,
    host=IDENTITY.host,
    device=IDENTITY.device,
    taken_at=1_790_000_000.0,
    seconds=13.5,
    bandwidth_gbs=Reached(samples=(39.0, 40.0, 38.0), samples_of_one_core=(24.0, 25.0), way="int64 sum (torch)"),
    rates={
        "float32": Reached(samples=(200.0, 190.0), samples_of_one_core=(100.0,), way="mm (torch)"),
        "bfloat16": Reached(samples=(800.0,), samples_of_one_core=(400.0,), way="mm (torch)"),
        "int8": Reached(samples=(1600.0,), samples_of_one_core=(800.0,), way="_int_mm (torch)"),
    },
    missing={"float16": "not implemented for 'Half'"},
    cache_bytes=32 << 20,
    versions={"python": "3.11.9", "torch": "2.13.0"},
)
"""40 GB a second; 200, 800 and 1600 billion operations a second in float32, bfloat16 and int8."""


def probed(number: int, **changes: Any) -> Probe:
    """A probe of the launches' host, taken `number` seconds after the first."""
    return replace(GIVEN, probe_id=f"{number:032x}", taken_at=GIVEN.taken_at + number, **changes)
