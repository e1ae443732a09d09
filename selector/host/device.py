"""Device: what runs a model, and Kind: what is known of all devices of one kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU or accelerator, or the CPU."""

    kind: str
    """Kind.name: cpu, cuda, rocm, ascend, maca, camb."""
    name: str
    """Product name; for a CPU its microarchitecture, model and cores."""
    memory_bytes: int
    """What a process can have: the device's memory; for a CPU the cgroup's limit or the machine's. 0: unknown."""
    free_bytes: int
    capability: tuple[int, int] | None = None
    driver: str | None = None
    power_limit_w: float | None = None
    mig: str | None = None
    """Profile of a MIG slice, `3g.40gb`."""
    uuid: str | None = None
    """By which a process can be given this device alone. It and the address are in no file: they are of one machine."""
    address: str | None = None
    """On the PCI bus, as /sys/bus/pci/devices names it: 0000:17:00.0."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend host --json` prints it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "memory_bytes": self.memory_bytes,
            "free_bytes": self.free_bytes,
            "capability": None if self.capability is None else f"{self.capability[0]}.{self.capability[1]}",
            "driver": self.driver,
            "power_limit_w": self.power_limit_w,
            "mig": self.mig,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where devices are looked for."""

    root: Path
    """The folder in which dev, proc, sys, opt and usr are."""
    environ: Mapping[str, str]
    nvml: Any = None
    """The module pynvml or what stands for it; None: it is imported where an NVIDIA driver shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of device: all that is said of one, in the file that finds them."""

    name: str
    """Device.kind, and the word in Facts.devices."""
    title: str
    """What people call one: `an NVIDIA GPU`."""
    find: Callable[[Machine], tuple[Device, ...]] | None
    """Gives the devices that a process may use, in their driver's order; None: of a CPU, HostSpec's own."""
    hidden_by: tuple[str, ...] = ()
    """Environment variables that list the devices a process may use; where they are empty, it may use none."""
    wheels: Mapping[str, str] = field(default_factory=dict)
    """Soname: the wheel that carries this library under nvidia/*/lib, where RUNPATHs of other wheels point."""
    driver_libraries: Mapping[str, str] = field(default_factory=dict)
    """Soname: the driver that brings this library."""
