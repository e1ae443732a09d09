"""A machine by the file that `autobackend host --json` wrote on it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from calibration.codec import LEAST, from_plain
from calibration.errors import UsageError
from calibration.probe import Probe
from calibration.registry import all_backends
from selector.host.device import Device
from selector.host.kinds import KINDS
from selector.host.spec import HostSpec
from selector.host.what_if import WhatIf
from selector.machines.installations import assumed, packages_of, told

FORMAT: Final = "autobackend-host"
VERSION: Final = 1
_MEND: Final = "write one on that machine: autobackend host --json > host.json"
_ADDED: Final = ("all_cores", "one_core", "spread")
"""What Reached.to_json tells beside what is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
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
class _Host:
    """A host as HostSpec.to_json tells it, and what the command adds."""

    format: str
    version: int
    identifier: str
    cpu_name: str
    cpu_model: str
    cpu_features: frozenset[str]
    cores: int = field(metadata={LEAST: 1})
    memory_bytes: int
    devices: tuple[_Device, ...] = field(metadata={LEAST: 1})
    probe: Probe | None = None
    packages: Mapping[str, Mapping[str, str]] | None = None
    """Backend: distribution: version. A backend that is not named is taken for installed."""


def written(host: HostSpec, probe: Probe | None, *, packages: bool) -> dict[str, Any]:
    """What `autobackend host --json` prints, and `read` reads.

    Args:
        packages: also what is installed for each backend.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        **host.to_json(),
        "probe": None if probe is None else probe.to_json(),
        **({"packages": packages_of(host)} if packages else {}),
    }


def read(path: Path) -> HostSpec:
    """The machine that a file describes.

    Raises:
        UsageError: it cannot be read, is no host, or is one of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", _MEND) from error
    except ValueError as error:
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
        host = from_plain(_Host, {**content, "probe": _as_kept(content.get("probe"))})
        return _spec(host, str(path))
    except ValueError as error:
        raise UsageError(f"{path} is no host: {error}", _MEND) from error


def _spec(host: _Host, name: str) -> HostSpec:
    """Raises ValueError: something in it cannot be."""
    known = all_backends()
    if unknown := [backend for backend in host.packages or () if backend not in known]:
        raise ValueError(f"needs backends in packages ({', '.join(known)}); found {', '.join(unknown)}")
    return HostSpec(
        identifier=f"what-if {name}",
        cpu_name=host.cpu_name,
        cpu_model=host.cpu_model,
        cpu_features=host.cpu_features,
        cores=host.cores,
        memory_bytes=host.memory_bytes,
        devices=tuple(map(_device, host.devices)),
        installations=told(host.packages) if host.packages else assumed(),
        what_if=WhatIf(
            name=name,
            assumptions=(*_on_packages(host), "as much of its memory is free as when the file was written"),
            bandwidth_gbs=host.probe.bandwidth_gbs.all if host.probe else None,
        ),
    )


def _on_packages(host: _Host) -> tuple[str, ...]:
    told_of = [name for name in all_backends() if name in (host.packages or {})]
    others = [name for name in all_backends() if name not in told_of]
    sentences = [f"the libraries of {', '.join(told_of)} load in the versions that the file names"] if told_of else []
    if others:
        which = ", ".join(others) if told_of else "every backend"
        are = "are" if told_of and len(others) > 1 else "is"
        sentences.append(f"{which} {are} installed there in a version that works, with libraries and drivers that load")
    return tuple(sentences)


def _device(device: _Device) -> Device:
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
