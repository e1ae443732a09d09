"""Which hosts are alike: what decides how long a model takes on them is the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from selector.host.spec import HostSpec

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Kin:
    """What all hosts of a group have in common."""

    kind: str
    """Device.kind."""
    device: str
    """The product; of a CPU its microarchitecture, its instructions, its model and its cores."""
    devices: int
    memory_gib: int
    """Of the device, as it is sold."""
    driver: str
    """The first number of the driver's version; empty where there is none."""
    power_limit_w: int
    """0: none is known."""
    mig: str
    cpu: str
    """The microarchitecture and the instructions that matter: it feeds a GPU."""
    cores: int

    @property
    def title(self) -> str:
        """What a sentence calls such a host."""
        several = f"{self.devices} x " if self.devices > 1 else ""
        parts = [f"{several}{self.device}", f"{self.memory_gib} GiB"]
        if self.mig:
            parts.append(f"MIG {self.mig}")
        if self.power_limit_w:
            parts.append(f"{self.power_limit_w} W")
        if self.driver:
            parts.append(f"driver {self.driver}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """As `autobackend fleet hosts --json` prints it."""
        return {
            "kind": self.kind,
            "device": self.device,
            "devices": self.devices,
            "memory_gib": self.memory_gib,
            "driver": self.driver or None,
            "power_limit_w": self.power_limit_w or None,
            "mig": self.mig or None,
            "cpu": self.cpu,
            "cores": self.cores,
        }


def kin_of(host: HostSpec) -> Kin:
    """What decides the times of this host."""
    device = host.device
    alike = [
        other for other in host.devices if (other.kind, other.name, other.mig) == (device.kind, device.name, device.mig)
    ]
    on_cpu = device.kind == "cpu"
    return Kin(
        kind=device.kind,
        device=device.name,
        devices=len(alike),
        memory_gib=as_sold(host.memory_bytes) if on_cpu else round(device.memory_bytes / _GIB),
        driver=(device.driver or "").partition(".")[0],
        power_limit_w=round(device.power_limit_w or 0),
        mig=device.mig or "",
        cpu=" ".join([host.cpu_name, *sorted(host.cpu_features)]),
        cores=host.cores,
    )


def as_sold(memory_bytes: int) -> int:
    """GiB of a machine's memory as its seller tells it: the least of 1, 1.5, 2, 3, 4, 6, 8 ... that holds it.

    A system sees 2 to 6 % less than what is built in, and machines of one type differ by a little.
    """
    step = 1.0
    while True:
        for size in (step, 1.5 * step):
            if memory_bytes <= size * _GIB:
                return max(1, round(size))
        step *= 2.0


def grouped(hosts: Mapping[str, HostSpec]) -> dict[Kin, tuple[str, ...]]:
    """The hosts of each group, by what the caller calls them; groups and hosts in a fixed order."""
    groups: dict[Kin, list[str]] = {}
    for name in sorted(hosts):
        groups.setdefault(kin_of(hosts[name]), []).append(name)
    return {kin: tuple(groups[kin]) for kin in sorted(groups)}
