"""HostSpec: devices, memory, installed backends and their versions."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from calibration.backend import Backend
from calibration.environments.config_file import backend_python
from calibration.environments.packages import installed, site_packages
from calibration.errors import BackendError, UsageError
from calibration.registry import all_backends
from selector.host.cpu import Cpu
from selector.host.device import Device, Machine
from selector.host.kinds import accelerators
from selector.host.what_if import WhatIf

__all__ = ["HOST_FILE", "Device", "HostSpec", "Installation", "Known", "cpu_device"]

HOST_FILE = "AUTOBACKEND_HOST_FILE"
"""Variable that names a file which says who this machine is, as `autobackend host --json` wrote it: in a container,
whose machine-id is a new one each time, that of the machine it runs on."""
TOLD_CORES = "AUTOBACKEND_CORES"
"""Variable with the number of cores that engines are told of, where what runs is bound to some of them: several devices
of a machine are calibrated on at once, and each launch shall be as one that has the machine for itself."""


class Known(StrEnum):
    """How it is known what an interpreter has."""

    SEEN = "seen"
    """Its packages were looked at."""
    TOLD = "told"
    """A file that was written on another machine names their versions; nobody can look at their libraries."""
    ASSUMED = "assumed"
    """Of another machine nobody says: whatever a backend needs is taken for installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where a backend's packages are and which versions: read from metadata, nothing is imported."""

    python: Path
    """The interpreter that runs the backend's worker."""
    versions: Mapping[str, str]
    """Distribution (normalised name): version, of all that is installed there."""
    site_packages: tuple[Path, ...]
    problem: str = ""
    """Why the interpreter cannot be used; nothing is installed there then."""
    known: Known = Known.SEEN

    @classmethod
    def detect(cls, python: Path) -> "Installation":
        """What an interpreter has; one that is missing is a `problem`."""
        try:
            return cls(python=python, versions=installed(python), site_packages=site_packages(python))
        except BackendError as error:
            return cls(python=python, versions={}, site_packages=(), problem=error.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """This machine, as far as it matters to the choice."""

    identifier: str
    """Stable for this machine and its devices; 12 hex digits."""
    cpu_name: str
    """archspec's name: sapphirerapids, zen3 ..."""
    cpu_model: str
    cpu_features: frozenset[str]
    """Of those that matter: avx2, avx512f, avx512_bf16, avx512_vnni, amx_bf16, amx_int8, neon, sve ..."""
    cores: int
    """Usable: affinity and cgroup quota."""
    memory_bytes: int
    devices: tuple[Device, ...]
    """Accelerators, or the CPU alone."""
    installations: Mapping[str, Installation]
    """Backend name: where it runs."""
    cpus: tuple[int, ...] = ()
    """Numbers of the usable cores."""
    what_if: WhatIf | None = None
    """Of a machine that one does not hold; None: it was looked at. Nothing of such a machine is measured or cached."""

    @property
    def place(self) -> str:
        """What a sentence calls it: `this host`, or as the user named a machine that he does not hold."""
        return "this host" if self.what_if is None else self.what_if.name

    @property
    def where(self) -> str:
        """Where something holds, in a sentence: `here`, or on the machine that the user does not hold."""
        return "here" if self.what_if is None else f"on {self.place}"

    def require_here(self, what: str) -> None:
        """Raises UsageError where somebody asks of a machine that he does not hold what only the machine can do."""
        if self.what_if is not None:
            raise UsageError(
                f"{what} needs the machine itself; found {self.what_if.name}, of which only a description is here",
                "do that on the machine",
            )

    @property
    def bound_cpus(self) -> tuple[int, ...]:
        """What a worker is bound to: the usable cores where they run the model; beside a GPU it goes where it likes."""
        return self.cpus if self.device.kind == "cpu" else ()

    @property
    def device(self) -> Device:
        """The device that runs models: the first accelerator, else the CPU."""
        return self.devices[0]

    def to_json(self) -> dict[str, Any]:
        """What `autobackend host --json` prints of the machine itself."""
        return {
            "identifier": self.identifier,
            "cpu_name": self.cpu_name,
            "cpu_model": self.cpu_model,
            "cpu_features": sorted(self.cpu_features),
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "devices": [device.to_json() for device in self.devices],
        }

    def lacks(self, features: frozenset[str] | None) -> bool:
        """Whether the device is a CPU with none of these features; False where none is asked for."""
        return features is not None and self.device.kind == "cpu" and not features & self.cpu_features

    @classmethod
    def detect(
        cls,
        root: Path = Path("/"),
        *,
        nvml: Any = None,
        environ: Mapping[str, str] = os.environ,
        backends: Mapping[str, Backend] | None = None,
    ) -> "HostSpec":
        """Look at this machine; no engine is imported, nothing is run.

        Args:
            root: where proc, sys, dev, etc, opt and usr are.
            nvml: the module pynvml or what stands for it.
            environ: where CUDA_VISIBLE_DEVICES and its like are.
            backends: whose packages to look for; None: every registered one.

        Raises:
            BackendError: the config file that names interpreters cannot be read.
            UsageError: HOST_FILE names a file that cannot be read, or of a machine with other devices.
        """
        cpu = Cpu.detect(root)
        devices = accelerators(Machine(root=root, environ=environ, nvml=nvml)) or (cpu_device(cpu),)
        pythons = {name: backend_python(name) for name in (all_backends() if backends is None else backends)}
        installations = {python: Installation.detect(python) for python in set(pythons.values())}
        found = cls(
            identifier=_identifier(root, devices, cpu),
            cpu_name=cpu.name,
            cpu_model=cpu.model,
            cpu_features=cpu.features,
            cores=int(told) if (told := environ.get(TOLD_CORES, "")).isdecimal() and int(told) > 0 else cpu.cores,
            memory_bytes=cpu.memory_bytes,
            devices=devices,
            installations={name: installations[python] for name, python in pythons.items()},
            cpus=cpu.numbers,
        )
        named = environ.get(HOST_FILE)
        return _as_named(found, Path(named)) if named else found


def cpu_device(cpu: Cpu) -> Device:
    """The processor as the device that runs models; its name tells the instructions that its relatives lack."""
    cores = "1 core" if cpu.cores == 1 else f"{cpu.cores} cores"
    # Results of a processor must not answer for one without its instructions. All that have the others have amx_tile.
    name = " + ".join(filter(None, (cpu.name, " ".join(sorted(cpu.beyond - {"amx_tile"})))))
    # An ARM processor names no model: its microarchitecture is all there is to say.
    model = cpu.model.replace(cpu.name, name) if cpu.name in cpu.model else f"{cpu.model} ({name})"
    return Device(
        kind="cpu",
        name=f"{model}, {cores}",
        memory_bytes=cpu.memory_bytes,
        free_bytes=cpu.free_bytes,
    )


def _as_named(found: HostSpec, path: Path) -> HostSpec:
    """The machine with the identifier and the devices of the file; cores, free memory and packages are as found.

    Of a machine with several devices that are alike, as many as are found here.
    """
    from selector.host.host_file import read_written

    written = read_written(path)
    kinds, found_kinds = ([device.kind for device in devices] for devices in (written.devices, found.devices))
    # A process may be given a part of the machine's devices, as a pod is; which part does not matter if all are alike.
    is_part = len({(device.kind, device.name, device.mig) for device in written.devices}) == 1
    if found_kinds != (kinds[: len(found_kinds)] if is_part else kinds):
        raise UsageError(
            f"{path} ({HOST_FILE}) is of a machine with {', '.join(kinds)}; here are {', '.join(found_kinds)}",
            f"unset {HOST_FILE}, or name a file that `autobackend host --json` wrote on this machine",
        )
    devices = tuple(
        replace(named, free_bytes=min(named.memory_bytes, here.free_bytes), uuid=here.uuid, address=here.address)
        for named, here in zip(written.found_devices, found.devices, strict=False)
    )
    return replace(found, identifier=written.identifier, devices=devices)


def _identifier(root: Path, devices: tuple[Device, ...], cpu: Cpu) -> str:
    """Hash of the machine's id (its name where it has none), its devices, its processor and its cores.

    Virtual machines made of one image have one id, whatever they run on.
    """
    machine = ""
    for file in ("etc/machine-id", "var/lib/dbus/machine-id", "proc/sys/kernel/hostname"):
        try:
            machine = (root / file).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        # systemd writes `uninitialized` into images that are to be given their own id at the first boot.
        if machine and machine != "uninitialized":
            break
    # The name of a CPU that is the device tells what it is.
    processor = () if devices[0].kind == "cpu" else (cpu_device(cpu).name,)
    parts = (machine, *(f"{d.kind} {d.name}" for d in devices), *processor, str(cpu.cores))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
