"""What a host file says: the machine that `autobackend host --json` was run on, as it was written there."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from calibration.codec import LEAST, from_plain
from calibration.errors import UsageError
from calibration.probing.probe import Probe
from calibration.registry import all_backends
from selector.host.device import Device
from selector.host.kinds import KINDS

FORMAT: Final = "autobackend-host"
VERSION: Final = 1
_MEND: Final = "write one on that machine: autobackend host --json > host.json"
_ADDED: Final = ("all_cores", "one_core", "spread")
"""What Reached.to_json tells beside what is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenDevice:
    """A device as Device.to_json tells it."""

    kind: str
    name: str
    memory_bytes: int
    free_bytes: int
    capability: str | None = None
    driver: str | None = None
    power_limit_w: float | None = None
    mig: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenHost:
    """A host as HostSpec.to_json tells it, and what the command adds."""

    format: str
    version: int
    identifier: str
    cpu_name: str
    cpu_model: str
    cpu_features: frozenset[str]
    cores: int = field(metadata={LEAST: 1})
    memory_bytes: int
    devices: tuple[WrittenDevice, ...] = field(metadata={LEAST: 1})
    probe: Probe | None = None
    packages: Mapping[str, Mapping[str, str]] | None = None
    """Backend: distribution: version. A backend that is not named is taken for installed."""

    @property
    def found_devices(self) -> tuple[Device, ...]:
        """Raises ValueError: a device cannot be."""
        return tuple(map(_device, self.devices))


def read_written(path: Path) -> WrittenHost:
    """The file as it is.

    Raises:
        UsageError: it cannot be read, is no host, or is one of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", _MEND) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}", _MEND) from error
    written_as = content.get("format") if isinstance(content, dict) else None
    if written_as != FORMAT:
        found = f"{written_as!r:.60}" if written_as is not None else "no format"
        raise UsageError(f"{path} is no host: needs the format {FORMAT!r}; found {found}", _MEND)
    if content.get("version") != VERSION:
        raise UsageError(
            f"{path} is a host of version {content.get('version')!r:.40}; this autobackend reads {VERSION}",
            "write it anew with this version of autobackend",
        )
    try:
        host = from_plain(WrittenHost, {**content, "probe": _as_kept(content.get("probe"))})
        known = all_backends()
        if unknown := [backend for backend in host.packages or () if backend not in known]:
            raise ValueError(f"needs backends in packages ({', '.join(known)}); found {', '.join(unknown)}")
        _ = host.found_devices
    except ValueError as error:
        raise UsageError(f"{path} is no host: {error}", _MEND) from error
    return host


def _device(device: WrittenDevice) -> Device:
    if device.kind not in KINDS:
        raise ValueError(f"needs a device of a kind that is known ({', '.join(KINDS)}); found {device.kind!r:.40}")
    if device.free_bytes > device.memory_bytes:
        raise ValueError(f"needs no more free_bytes than memory_bytes; found {device.free_bytes}")
    capability = None if device.capability is None else re.fullmatch(r"(\d{1,2})\.(\d)", device.capability)
    if device.capability is not None and capability is None:
        raise ValueError(f"needs a capability like '9.0'; found {device.capability!r:.40}")
    return Device(
        kind=device.kind,
        name=device.name,
        memory_bytes=device.memory_bytes,
        free_bytes=device.free_bytes,
        capability=(int(capability[1]), int(capability[2])) if capability else None,
        driver=device.driver,
        power_limit_w=device.power_limit_w,
        mig=device.mig,
    )


def _as_kept(probe: Any) -> Any:
    """A probe without the figures that are computed from what is kept."""
    if not isinstance(probe, dict) or not isinstance(probe.get("rates"), dict):
        return probe
    rates = {dtype: _kept_of(reached) for dtype, reached in probe["rates"].items()}
    return {**probe, "bandwidth_gbs": _kept_of(probe.get("bandwidth_gbs")), "rates": rates}


def _kept_of(reached: Any) -> Any:
    if not isinstance(reached, dict):
        return reached
    return {name: value for name, value in reached.items() if name not in _ADDED}
