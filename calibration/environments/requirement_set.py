"""The exact distributions of a backend's virtual environment, from `requirements/BACKEND-DEVICE.txt` beside it."""

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
    """A complete list, tried as a whole: pip installs these distributions and nothing else."""

    backend: str
    device: str
    """The kind of device that the list is for."""
    file: Path
    pins: tuple[str, ...]
    """`name==version`"""
    bytes: int
    """On the disk, as measured when the list was tried; 0: not known."""
    index: str
    """URL of a second index, for versions that the user's own index lacks (`torch==2.13.0+cpu`); empty: none."""
    digest: str
    """A hash of the pins, which tells two releases of the list apart."""

    @property
    def name(self) -> str:
        return f"{self.backend}-{self.device}"

    def version(self, package: str) -> str:
        """The version of a distribution in the list; empty where the list lacks it."""
        return next((p.partition("==")[2] for p in self.pins if requirement_name(p) == normalise(package)), "")

    @property
    def local(self) -> tuple[str, ...]:
        """Pins with a local version (`+cpu`): builds that PyPI does not carry."""
        return tuple(p for p in self.pins if "+" in p.partition("==")[2])

    @classmethod
    def find(cls, backend: str, device: str, folder: Path) -> "RequirementSet | None":
        """The set of a backend for a device kind, `BACKEND-DEVICE.txt` in `folder`; None where there is none.

        Raises:
            InstallError: a line of the file is not `name==version`.
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
