"""What the file system says of the folder of artifacts, and what it refuses."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from calibration.errors import ArtifactError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; files that come and go meanwhile may or may not count."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def disk_of(folder: Path) -> Path:
    """The mount point of the disk that holds a folder, or would hold it."""
    place = existing(folder).resolve()
    while not place.is_mount():
        place = place.parent
    return place


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


def sync_folder(folder: Path) -> None:
    """Wait until what was renamed in a folder is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def as_artifact_error(root: Path, *, only_when_full: bool = False) -> Iterator[None]:
    """Raise what the file system refuses as an ArtifactError.

    Args:
        only_when_full: pass on every other refusal as it is.
    """
    try:
        yield
    except filelock.Timeout:  # an OSError too
        raise
    except OSError as error:
        if only_when_full and error.errno not in _FULL:
            raise
        if error.errno in _FULL:
            raise ArtifactError(
                f"no space left for artifacts in {root}",
                "free some: autobackend artifacts prune, or set AUTOBACKEND_ARTIFACTS",
            ) from error
        raise ArtifactError(
            f"the artifact store {root} cannot be used: {error.strerror or error}",
            "set AUTOBACKEND_ARTIFACTS to a folder of yours",
        ) from error
