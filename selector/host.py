"""HostSpec: devices, memory, installed backends and their versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU or accelerator, or the CPU."""

    kind: str
    """cpu, cuda, rocm, ascend, maca, camb"""
    name: str
    """Product name; for a CPU its microarchitecture, model and cores."""
    memory_bytes: int
    """What a process can have: the device's memory; for a CPU the cgroup's limit or the machine's."""
    free_bytes: int
    capability: tuple[int, int] | None = None
    driver: str | None = None
    power_limit_w: float | None = None
    mig: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where a backend's packages are and which versions: read from metadata, nothing is imported."""

    python: Path
    """The interpreter that runs the backend's worker."""
    versions: Mapping[str, str]
    """Distribution (normalised name): version, of all that is installed there."""
    site_packages: tuple[Path, ...]


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

    @property
    def device(self) -> Device:
        """The device that runs models: the first accelerator, else the CPU."""
        return self.devices[0]

    @classmethod
    def detect(cls) -> "HostSpec":
        raise NotImplementedError
