"""A finished virtual environment of a backend, and the manifest in its folder that says so."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.codec import from_plain, to_plain
from calibration.whole_file import write_whole

MANIFEST = "venv.json"
_EARLIER_MANIFEST = "room.json"
"""What the manifest was called before; such environments are still read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A tiny model's answer in a virtual environment."""

    candidate: str
    tokens: tuple[int, ...]
    seconds: float
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv:
    """A finished virtual environment."""

    backend: str
    folder: Path
    requirements: str
    """Name of the requirement set, `llamacpp-cpu`."""
    digest: str
    """Of the requirement set."""
    base: str
    """The interpreter that it was built from."""
    version: str
    """Of the backend's own distribution."""
    bytes: int
    seconds: float
    """How long it took to make, its verification included."""
    verified: Verified

    @property
    def python(self) -> Path:
        return python_in(self.folder)

    def to_json(self) -> dict[str, Any]:
        """What `autobackend backends --json` prints of it."""
        return {
            "folder": str(self.folder),
            "python": str(self.python),
            "requirements": self.requirements,
            "version": self.version,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "verified": to_plain(self.verified),
        }


def python_in(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def read(folder: Path) -> Venv | None:
    """The virtual environment in a folder; None where it is not finished or its manifest cannot be read."""
    file = folder / MANIFEST
    if not file.exists():
        file = folder / _EARLIER_MANIFEST
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        venv = from_plain(Venv, {**fields, "folder": str(folder)})
    except (OSError, ValueError, TypeError):
        return None
    return venv if venv.python.exists() else None


def write_manifest(venv: Venv) -> None:
    """From now on `venv` counts as finished.

    Raises:
        OSError: the manifest cannot be written.
    """
    fields = to_plain(venv)
    del fields["folder"]
    write_whole(venv.folder / MANIFEST, json.dumps(fields, indent=1))


def delete(folder: Path) -> None:
    """Delete a virtual environment, its manifest first: half deleted, it must not look finished.

    Raises:
        OSError: no permission.
    """
    for manifest in (MANIFEST, _EARLIER_MANIFEST):
        (folder / manifest).unlink(missing_ok=True)
    shutil.rmtree(folder)


def size_bytes(folder: Path) -> int:
    """What the files of a folder take; links count nothing."""
    return sum(entry.lstat().st_size for entry in folder.rglob("*") if not entry.is_symlink() and entry.is_file())
