"""Content-addressed store of what is made once: random checkpoints, converted models, references."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs

from calibration.errors import ArtifactError
from calibration.measurement import Candidate

MANIFEST = "artifact.json"
"""Written last, outside the content: a folder without it was never finished."""
CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something finished."""

    path: Path
    """Folder with the content."""
    key: Mapping[str, str]
    """What it was made of and by what; `kind` is checkpoint, converted or reference."""
    bytes: int
    seconds: float
    """How long it took to make."""
    created_at: float
    """Unix time."""

    @property
    def kind(self) -> str:
        return self.key.get("kind", "")


def converted_key(
    *, weights: str, candidate: Candidate, converter: str, model: str, prepared_as: str = ""
) -> dict[str, str]:
    """The key of what a candidate's `prepare` makes.

    Args:
        weights: identity of the weights.
        converter: name and version of what converts.
        model: as the user named it.
        prepared_as: Variant.prepared_as.
    """
    return {
        "kind": "converted",
        "weights": weights,
        "backend": candidate.backend,
        "variant": prepared_as or candidate.variant,
        "converter": converter,
        "model": model,
    }


class ArtifactStore:
    """A folder of artifacts, one subfolder each, named by the hash of its key.

    Args:
        root: by default AUTOBACKEND_ARTIFACTS, else `artifacts` in the user's data folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        chosen = root or os.environ.get("AUTOBACKEND_ARTIFACTS")
        self.root = Path(chosen) if chosen else platformdirs.user_data_path("autobackend") / "artifacts"

    def get(self, key: Mapping[str, str]) -> Artifact | None:
        """The finished artifact of a key."""
        return _read(self.root / _name(key))

    def make(self, key: Mapping[str, str], build: Callable[[Path], None]) -> Artifact:
        """Find the artifact, or let `build` fill an empty folder and make it appear, whole or not at all.

        Who wants the same artifact meanwhile waits for it. What a killed build left is swept by the next.

        Raises:
            ArtifactError: no space or no permission. What `build` raises is passed on, and nothing is left.
        """
        name = _name(key)
        lock = filelock.FileLock(self.root / f"{name}.lock")
        with _as_artifact_error(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            found = self.get(key)
            if found is not None:
                return found
            for left in self.root.glob(f"{name}.part-*"):
                shutil.rmtree(left, ignore_errors=True)
            return self._make(name, key, build)
        finally:
            lock.release()

    def list(self) -> Sequence[Artifact]:
        """All that is finished, newest first."""
        if not self.root.is_dir():
            return []
        found = [_read(folder) for folder in self.root.iterdir() if folder.is_dir()]
        return sorted((a for a in found if a is not None), key=lambda a: a.created_at, reverse=True)

    def prune(self, *, older_than_days: float | None = None, kinds: Collection[str] = ()) -> Sequence[Artifact]:
        """Delete artifacts (all, or only of some kinds or above an age) and what killed builds left.

        Returns:
            What was deleted.

        Raises:
            ArtifactError: no permission.
        """
        before = time.time() - (older_than_days or 0.0) * 86400
        doomed = [a for a in self.list() if a.created_at <= before and (not kinds or a.kind in kinds)]
        with _as_artifact_error(self.root):
            for artifact in doomed:
                folder = artifact.path.parent
                # The manifest goes first: a half-deleted artifact must not look finished.
                (folder / MANIFEST).unlink()
                shutil.rmtree(folder)
            if self.root.is_dir():
                self._sweep()
        return doomed

    def _make(self, name: str, key: Mapping[str, str], build: Callable[[Path], None]) -> Artifact:
        part = self.root / f"{name}.part-{uuid.uuid4().hex[:8]}"
        content = part / CONTENT
        final = self.root / name
        try:
            with _as_artifact_error(self.root):
                content.mkdir(parents=True)
            began = time.monotonic()
            with _as_artifact_error(self.root, errnos=_FULL):
                build(content)
            seconds = time.monotonic() - began
            with _as_artifact_error(self.root):
                manifest = {
                    "key": dict(key),
                    "bytes": sum(f.stat().st_size for f in content.rglob("*") if f.is_file()),
                    "seconds": seconds,
                    "created_at": time.time(),
                }
                _write_through(part / MANIFEST, json.dumps(manifest, indent=1))
                shutil.rmtree(final, ignore_errors=True)
                part.rename(final)
                _sync_folder(self.root)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        made = _read(final)
        if made is None:
            raise ArtifactError(f"{final} vanished while it was made", "run the command again")
        return made

    def _sweep(self) -> None:
        """Delete parts that nobody is building: their lock is free."""
        for part in self.root.glob("*.part-*"):
            lock = filelock.FileLock(self.root / f"{part.name.partition('.')[0]}.lock")
            with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=0):
                shutil.rmtree(part, ignore_errors=True)


def _name(key: Mapping[str, str]) -> str:
    told = json.dumps(dict(key), sort_keys=True)
    return f"{key.get('kind', 'artifact')}-{hashlib.sha256(told.encode()).hexdigest()[:24]}"


def _read(folder: Path) -> Artifact | None:
    """The artifact in a folder; None where it is not finished or its manifest is no manifest."""
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if ".part-" in folder.name or not (folder / CONTENT).is_dir():
            return None
        return Artifact(
            path=folder / CONTENT,
            key={str(k): str(v) for k, v in told["key"].items()},
            bytes=int(told["bytes"]),
            seconds=float(told["seconds"]),
            created_at=float(told["created_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_through(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def _as_artifact_error(root: Path, errnos: Collection[int] | None = None) -> Iterator[None]:
    """Tell what the file system refuses (only `errnos`, where given) as an ArtifactError."""
    try:
        yield
    except OSError as error:
        if errnos is not None and error.errno not in errnos:
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
