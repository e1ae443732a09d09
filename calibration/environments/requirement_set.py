"""RequirementSet: the exact distributions of a backend's own environment, tried together; the files
`requirements/BACKEND-DEVICE.txt` beside a backend.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calibration.environments.distributions import normalise, requirement_name
from calibration.errors import InstallError

_FIELD = re.compile(r"^# (size|index): *(.+?)\s*$", re.MULTILINE)
_SIZE = re.compile(r"(\d+) MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementSet:
    """A complete, closed list: pip installs these and nothing else."""

    backend: str
    device: str
    """Device kind that it is for."""
    file: Path
    pins: tuple[str, ...]
    """`name==version`"""
    bytes: int
    """On the disk, as it was when it was tried; 0: not known."""
    index: str
    """An index more, for the versions that the user's own index has not (`torch==2.13.0+cpu`); empty: none."""
    digest: str
    """Of the pins: tells two releases of the set apart."""

    @property
    def name(self) -> str:
        return f"{self.backend}-{self.device}"

    def version(self, package: str) -> str:
        """The version of a distribution in it; empty where it is not in it."""
        return next((p.partition("==")[2] for p in self.pins if requirement_name(p) == normalise(package)), "")

    @property
    def local(self) -> tuple[str, ...]:
        """Pins with a local version (`+cpu`): builds that PyPI does not carry."""
        return tuple(p for p in self.pins if "+" in p.partition("==")[2])

    @classmethod
    def find(cls, backend: str, device: str, folder: Path) -> "RequirementSet | None":
        """The set of a backend for a device kind, `BACKEND-DEVICE.txt` in `folder`; None where there is none.

        Raises:
            InstallError: the file is no list of exact versions.
        """
        file = folder / f"{backend}-{device}.txt"
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        pins = tuple(_pins(text))
        for pin in pins:
            if not re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;*]+", pin):
                raise InstallError(f"{file}: needs name==version in every line; found {pin!r}")
        fields = dict(_FIELD.findall(text))
        size = _SIZE.search(fields.get("size", ""))
        return cls(
            backend=backend,
            device=device,
            file=file,
            pins=pins,
            bytes=int(size[1]) << 20 if size else 0,
            index=fields.get("index", ""),
            digest=hashlib.sha256("\n".join(sorted(pins)).encode()).hexdigest()[:12],
        )

    @classmethod
    def devices(cls, backend: str, folder: Path) -> list[str]:
        """Device kinds for which a backend has a set."""
        return sorted(f.stem.rpartition("-")[2] for f in folder.glob(f"{backend}-*.txt"))


def _pins(text: str) -> Iterator[str]:
    for line in text.splitlines():
        pin = line.partition("#")[0].strip()
        if pin:
            yield pin
