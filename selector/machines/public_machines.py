"""The library of public machines: one TOML file each, with the source of every figure."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from calibration.codec import LEAST, from_plain
from calibration.errors import UsageError
from selector.host.cpu import Cpu, features_of
from selector.host.device import Device
from selector.host.spec import HostSpec, Installation, cpu_device
from selector.host.what_if import WhatIf

PREFIX: Final = "host:"
_LIBRARY: Final = Path(__file__).parent / "library"
_INSTALLED: Final = "every backend is installed there in a version that works, with libraries and drivers that load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A GPU; of the computer around it nothing is said."""

    kind: str
    """Device.kind."""
    name: str
    """As its driver's library calls it (NVML), so that times of such a device are found."""
    memory_mib: int = field(metadata={LEAST: 1})
    """That the driver reports, which is not the number on the data sheet."""
    reserved_mib: int
    """That the driver keeps for itself."""
    capability: str | None = None
    bandwidth_gbs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """A computer without a GPU."""

    name: str
    """archspec's name of the microarchitecture."""
    model: str
    """As Linux calls it; empty where it has no name for it (ARM)."""
    features: frozenset[str]
    """Of those in cpu.FEATURES."""
    cores: int = field(metadata={LEAST: 1})
    """That Linux shows: threads, where a core has two."""
    memory_mib: int = field(metadata={LEAST: 1})
    reserved_mib: int
    """That Linux and what always runs take."""
    bandwidth_gbs: float
    """Of the socket; a part of it has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicMachine:
    """A file of the library: it has an accelerator or a processor."""

    title: str
    accelerator: Accelerator | None = None
    processor: Processor | None = None
    sources: Mapping[str, str]

    @classmethod
    def read(cls, name: str) -> "PublicMachine":
        """Read a machine of the library.

        Raises:
            UsageError: there is no machine of this name.
        """
        file = _LIBRARY / f"{name}.toml"
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or not file.is_file():
            raise UsageError(f"there is no machine {PREFIX}{name}", _nearest(name))
        return from_plain(cls, tomllib.loads(file.read_text(encoding="utf-8")))

    def host(self, name: str, count: int, installations: Mapping[str, Installation]) -> HostSpec:
        """The machine with `count` such devices.

        Args:
            name: as the user named it.

        Raises:
            UsageError: several processors are asked for.
        """
        if self.accelerator is not None:
            return _with_accelerators(self.accelerator, name, count, installations, self.sources)
        if count != 1:
            raise UsageError(
                f"{name} has one processor; found x{count}", f"name it once: --host {name.partition(' ')[0]}"
            )
        assert self.processor is not None
        return _with_processor(self.processor, name, installations, self.sources)


def machine_names() -> tuple[str, ...]:
    """Names that `host:NAME` takes, sorted."""
    return tuple(sorted(file.stem for file in _LIBRARY.glob("*.toml")))


def _nearest(name: str) -> str:
    names = machine_names()
    begun = [other for other in names if name and other.startswith(name)]
    near = begun or difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(PREFIX + n for n in near)}? " if near else ""
    return f"{hint}the machines are {', '.join(names)}"


def _with_accelerators(
    gpu: Accelerator, name: str, count: int, installations: Mapping[str, Installation], sources: Mapping[str, str]
) -> HostSpec:
    memory = gpu.memory_mib << 20
    major, _, minor = (gpu.capability or "").partition(".")
    device = Device(
        kind=gpu.kind,
        name=gpu.name,
        memory_bytes=memory,
        free_bytes=memory - (gpu.reserved_mib << 20),
        capability=(int(major), int(minor)) if gpu.capability else None,
    )
    return HostSpec(
        identifier=f"what-if {name}",
        cpu_name="",
        cpu_model="",
        cpu_features=frozenset(),
        cores=0,
        memory_bytes=0,
        devices=(device,) * count,
        installations=installations,
        what_if=WhatIf(
            name=name,
            assumptions=(
                _INSTALLED,
                f"the driver keeps {gpu.reserved_mib} MiB, and no other program is on the GPU",
                "the computer around the GPU is large enough to load and to convert the model",
            ),
            bandwidth_gbs=gpu.bandwidth_gbs,
            sources=sources,
        ),
    )


def _with_processor(
    processor: Processor, name: str, installations: Mapping[str, Installation], sources: Mapping[str, str]
) -> HostSpec:
    memory = processor.memory_mib << 20
    cpu = Cpu(
        name=processor.name,
        model=processor.model or f"ARM {processor.name}",
        features=processor.features,
        beyond=processor.features - features_of(processor.name),
        numbers=tuple(range(processor.cores)),
        memory_bytes=memory,
        free_bytes=memory - (processor.reserved_mib << 20),
    )
    return HostSpec(
        identifier=f"what-if {name}",
        cpu_name=cpu.name,
        cpu_model=cpu.model,
        cpu_features=cpu.features,
        cores=cpu.cores,
        memory_bytes=memory,
        devices=(cpu_device(cpu),),
        installations=installations,
        what_if=WhatIf(
            name=name,
            assumptions=(
                _INSTALLED,
                f"Linux and what always runs take {processor.reserved_mib / 1024:.1f} GiB of its memory",
            ),
            bandwidth_gbs=processor.bandwidth_gbs,
            sources=sources,
        ),
    )
