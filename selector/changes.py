"""What tells that a host, its packages or a model have changed since they were read."""

import os
from collections.abc import Hashable
from dataclasses import replace

from calibration.environments.config_file import config_path
from calibration.environments.distributions import beside_folder
from calibration.registry import all_backends
from selector.host.spec import HostSpec
from selector.model.files.weights import BESIDE

Stamp = tuple[int, int, int] | None

_SIDECARS = ("config.json", *BESIDE)
"""Files that ModelSpec reads and that can change without a change of their folder."""


def stamp(path: str) -> Stamp:
    """Changes when the file does; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  a tenth of the time of Path.stat
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def same_host(one: HostSpec, other: HostSpec) -> bool:
    """Whether two looks at a host saw the same in all that is compared."""
    return replace(one, devices=other.devices) == other and _same_devices(one, other)


def packages_and_config(host: HostSpec) -> tuple[str, ...]:
    """The folders and the file whose change may change what is installed, or which interpreter runs a backend."""
    folders = {os.fspath(folder) for i in host.installations.values() for folder in i.site_packages}
    folders |= {
        os.fspath(beside_folder(host.installations[name].python, kept))
        for name, backend in all_backends().items()
        if name in host.installations
        for kept in backend.facts.kept_apart
    }
    return os.fspath(config_path()), *sorted(folders)


def model_state(model: str, folder: str) -> Hashable:
    """Changes when the files of a model do that were read under this name from this folder."""
    # `model` is the folder itself, or, for a hub id, a folder that would come first if it existed.
    # A hub id's folder is .../snapshots/REVISION; .../refs/main names the revision.
    return (
        stamp(model),
        stamp(folder),
        *(stamp(f"{folder}/{name}") for name in _SIDECARS),
        None if folder == model else stamp(f"{folder}/../../refs/main"),
    )


def _same_devices(one: HostSpec, other: HostSpec) -> bool:
    """The same but for free memory that moved by less than a thirtieth of the device's."""
    return len(one.devices) == len(other.devices) and all(
        replace(a, free_bytes=b.free_bytes) == b and abs(a.free_bytes - b.free_bytes) * 30 < max(a.memory_bytes, 1)
        for a, b in zip(one.devices, other.devices, strict=True)
    )
