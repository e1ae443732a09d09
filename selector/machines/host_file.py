"""A machine by the file that `autobackend host --json` wrote on it."""

from pathlib import Path
from typing import Any

from calibration.probing.probe import Probe
from calibration.registry import all_backends
from selector.host.host_file import FORMAT, VERSION, WrittenHost, read_written
from selector.host.spec import HostSpec
from selector.host.what_if import WhatIf
from selector.machines.installations import assumed, packages_of, told


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
    return _spec(read_written(path), str(path))


def _spec(host: WrittenHost, name: str) -> HostSpec:
    return HostSpec(
        identifier=f"what-if {name}",
        cpu_name=host.cpu_name,
        cpu_model=host.cpu_model,
        cpu_features=host.cpu_features,
        cores=host.cores,
        memory_bytes=host.memory_bytes,
        devices=host.found_devices,
        installations=told(host.packages) if host.packages else assumed(),
        what_if=WhatIf(
            name=name,
            assumptions=(*_on_packages(host), "as much of its memory is free as when the file was written"),
            bandwidth_gbs=host.probe.bandwidth_gbs.all if host.probe else None,
        ),
    )


def _on_packages(host: WrittenHost) -> tuple[str, ...]:
    told_of = [name for name in all_backends() if name in (host.packages or {})]
    others = [name for name in all_backends() if name not in told_of]
    sentences = [f"the libraries of {', '.join(told_of)} load in the versions that the file names"] if told_of else []
    if others:
        which = ", ".join(others) if told_of else "every backend"
        are = "are" if told_of and len(others) > 1 else "is"
        sentences.append(f"{which} {are} installed there in a version that works, with libraries and drivers that load")
    return tuple(sentences)
