"""The kinds of devices: one entry each, in the order in which they are looked for and listed."""

from selector.host.accelerators.amd import AMD
from selector.host.accelerators.ascend import ASCEND
from selector.host.accelerators.cambricon import CAMBRICON
from selector.host.accelerators.metax import METAX
from selector.host.accelerators.nvidia import NVIDIA
from selector.host.device import Device, Kind, Machine

_CPU = Kind(name="cpu", title="a CPU", find=None)

KINDS = {kind.name: kind for kind in (_CPU, NVIDIA, AMD, ASCEND, METAX, CAMBRICON)}

HIDING_VARIABLES = tuple(variable for kind in KINDS.values() for variable in kind.hidden_by)
"""Environment variables that hide devices."""


def accelerators(machine: Machine) -> tuple[Device, ...]:
    """Every accelerator that a process may use; empty where there is none."""
    return tuple(device for kind in KINDS.values() if kind.find for device in kind.find(machine))


def title(kind: str) -> str:
    """What people call a device of this kind; of an unknown kind its name."""
    return KINDS[kind].title if kind in KINDS else kind


def titles(kinds: frozenset[str]) -> list[str]:
    """What people call devices of these kinds."""
    return [kind.title for kind in KINDS.values() if kind.name in kinds]
