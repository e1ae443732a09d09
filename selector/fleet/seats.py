"""Which devices of a host can be calibrated on at once: each with cores and a bus of its own, as files tell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from selector.host.cpu import numbers_of
from selector.host.device import Device
from selector.host.spec import HostSpec

CORES_EACH: Final = 3
"""Physical cores beside a GPU, at least: vLLM has three processes for one (API server, engine core, worker), and says
that fewer cores make them wait for each other (vLLM, docs/configuration/optimization.md, "CPU Resources for GPU
Deployments"). No engine of ours has more threads that compute beside a GPU."""
FLOAT32_BYTES: Final = 4
"""The reference, which is the most that a launch holds in the machine's memory, has so many for each weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A device, and the cores that what runs there is bound to."""

    uuid: str
    cpus: tuple[int, ...]
    """None: it is not bound."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Of a process that shall have this device alone."""
        return {"CUDA_VISIBLE_DEVICES": self.uuid} if self.uuid else {}


def seats_of(host: HostSpec, root: Path = Path("/")) -> tuple[Seat, ...]:
    """A seat for each device that shares neither cores nor bus with another one of them; fewer than two: none.

    Only what files say counts; where they do not say it, devices are taken to share. So of devices below one root port
    of PCIe, or of a virtual machine's bus that shows no ports, one is taken; slices of one GPU are one; and of devices
    beside the same cores as many as leave CORES_EACH for each.

    Args:
        root: where sys is.
    """
    buses: dict[tuple[str, ...], Device] = {}
    for device in host.devices:
        if _is_like(device, host.device) and (bus := _bus(device, root)):
            buses.setdefault(bus, device)
    by_cores: dict[tuple[int, ...], list[Device]] = {}
    for device in buses.values():
        by_cores.setdefault(_cores_beside(device, host, root), []).append(device)
    if any(one != other and set(one) & set(other) for one in by_cores for other in by_cores):
        return ()  # they share cores in part: nobody can say whose they are
    seats = [seat for cores, devices in by_cores.items() for seat in _dealt(_physical(cores, root), devices)]
    return tuple(seats) if len(seats) > 1 else ()


def _is_like(device: Device, other: Device) -> bool:
    """Whether it is a whole GPU that can be given to a process alone, of the kind that the other is."""
    return (
        device.kind == "cuda"
        and bool(device.uuid and device.address)
        and not device.mig
        and (device.name, device.memory_bytes, device.power_limit_w)
        == (other.name, other.memory_bytes, other.power_limit_w)
    )


def _bus(device: Device, root: Path) -> tuple[str, ...]:
    """What it shares with others on the way to the processor: a root port, or a host bridge where no port shows."""
    folder = root / "sys/bus/pci/devices" / (device.address or "")
    if not folder.is_dir():
        return ()
    bridge, *below = folder.resolve().relative_to((root / "sys/devices").resolve()).parts
    return (bridge, below[0]) if len(below) > 1 else (bridge,)


def _cores_beside(device: Device, host: HostSpec, root: Path) -> tuple[int, ...]:
    """The usable cores that are near to it."""
    near = set(numbers_of(_read(root / "sys/bus/pci/devices" / (device.address or "") / "local_cpulist")))
    return tuple(number for number in host.cpus if number in near)


def _physical(cores: Iterable[int], root: Path) -> list[tuple[int, ...]]:
    """The cores by the physical one that they are threads of."""
    groups: dict[str, list[int]] = {}
    for number in cores:
        siblings = _read(root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        groups.setdefault(siblings or str(number), []).append(number)
    return [tuple(group) for group in groups.values()]


def _dealt(physical: list[tuple[int, ...]], devices: list[Device]) -> list[Seat]:
    """As many seats as leave enough cores for each; the cores that are left over serve nobody."""
    count = min(len(devices), len(physical) // CORES_EACH)
    each = len(physical) // count if count else 0
    return [
        Seat(
            uuid=device.uuid or "",
            cpus=tuple(sorted(number for core in physical[place * each : (place + 1) * each] for number in core)),
        )
        for place, device in enumerate(devices[:count])
    ]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
