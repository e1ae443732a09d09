"""What the tests of the rules judge, and with what."""

from typing import Any

from selector.demand.demand import Demand
from selector.host.spec import Device
from selector.rules.judge import judge
from tests.selector.conftest import GIB, FakeBackend, host, spec


def reasons(backend: FakeBackend, model: Any = None, machine: Any = None, **demand: Any) -> list[tuple[str, str, str]]:
    """(rule, text, mend) of the backend's first variant."""
    verdict = judge(model or small(), machine or host(), Demand.of(**demand), {backend.name: backend})[0]
    return [(r.rule, r.text, r.mend) for r in verdict.reasons]


def small(**changes: Any) -> Any:
    """A model that fits everywhere."""
    return spec(**{"parameters": 500_000_000, "weight_bytes": GIB, **changes})


def gpu(capability: tuple[int, int] = (8, 0), name: str = "NVIDIA GPU", **changes: Any) -> Any:
    device = Device(
        kind="cuda", name=name, memory_bytes=80 * GIB, free_bytes=79 * GIB, capability=capability, driver="570.1"
    )
    return host(devices=(device,), **changes)
