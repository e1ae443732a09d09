"""Artifact: something that was made once, the key that it is found by, and how it lies in its folder."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.conversion.disk import size_of
from calibration.measurement import Candidate
from calibration.whole_file import write_whole

MANIFEST = "artifact.json"
"""Written last, outside the content: a folder without it was never finished."""
CONTENT = "content"
LOG = "prepare.log"
"""What the maker printed. It lies beside the manifest; a build may write it beside the folder that it fills."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something that was made, whole."""

    path: Path
    """Folder with the content."""
    key: Mapping[str, str]
    """What it was made of and by what; `kind` is checkpoint, cut, converted or reference."""
    bytes: int
    seconds: float
    """How long it took to make."""
    created_at: float
    """Unix time."""
    peak_memory_bytes: int | None = None
    """Of its maker; None: nobody watched it."""
    expected_memory_bytes: int | None = None
    """What the facts of its backend had said of that; None: nothing."""

    @property
    def kind(self) -> str:
        return self.key.get("kind", "")

    @property
    def log(self) -> Path:
        """The file with what its maker printed; it exists only where the maker kept one."""
        return self.path.parent / LOG

    def to_json(self) -> dict[str, Any]:
        """As `autobackend artifacts list --json` prints it."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "key": dict(self.key),
            "bytes": self.bytes,
            "seconds": self.seconds,
            "created_at": self.created_at,
            "peak_memory_bytes": self.peak_memory_bytes,
            "expected_memory_bytes": self.expected_memory_bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a build returns whose process was watched."""

    peak_memory_bytes: int
    expected_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What a build has written so far, or had written when it was killed."""

    path: Path
    bytes: int


def converted_key(
    *, weights: str, candidate: Candidate, converter: str, model: str, prepared_as: str = "", cut: str = ""
) -> dict[str, str]:
    """The key of what a candidate's `prepare` makes.

    Args:
        weights: identity of the weights.
        converter: name and version of what converts.
        model: as the user named it.
        prepared_as: Variant.prepared_as.
        cut: Rung.cut, so that the list of artifacts can say so.
    """
    return {
        "kind": "converted",
        "weights": weights,
        "backend": candidate.backend,
        "variant": prepared_as or candidate.variant,
        "converter": converter,
        "model": model,
        **({"cut": cut} if cut else {}),
    }


def folder_name(key: Mapping[str, str]) -> str:
    """The name of an artifact's folder: its kind, and the hash of its key."""
    text = json.dumps(dict(key), sort_keys=True)
    return f"{key.get('kind', 'artifact')}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def write_manifest(folder: Path, key: Mapping[str, str], seconds: float, watched: Watched | None) -> None:
    """Say of a folder whose content is whole what it is; only then is it an artifact.

    Args:
        seconds: how long it took to make.
        watched: what its maker held; None: nobody watched it.
    """
    manifest = {
        "key": dict(key),
        "bytes": size_of(folder / CONTENT),
        "seconds": seconds,
        "created_at": time.time(),
        "peak_memory_bytes": watched and watched.peak_memory_bytes,
        "expected_memory_bytes": watched and watched.expected_memory_bytes,
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1))


def read_artifact(folder: Path) -> Artifact | None:
    """The artifact in a folder; None where it is not finished or its manifest cannot be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if ".part-" in folder.name or not (folder / CONTENT).is_dir():
            return None
        return Artifact(
            path=folder / CONTENT,
            key={str(k): str(v) for k, v in manifest["key"].items()},
            bytes=int(manifest["bytes"]),
            seconds=float(manifest["seconds"]),
            created_at=float(manifest["created_at"]),
            # Artifacts of older versions have none.
            peak_memory_bytes=_bytes_or_none(manifest.get("peak_memory_bytes")),
            expected_memory_bytes=_bytes_or_none(manifest.get("expected_memory_bytes")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _bytes_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None
