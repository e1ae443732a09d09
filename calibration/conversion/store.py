"""Content-addressed store of what is made once: random checkpoints, converted models, references."""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import filelock
import platformdirs

from calibration.conversion.artifact import (
    CONTENT,
    MANIFEST,
    Artifact,
    Unfinished,
    Watched,
    folder_name,
    read_artifact,
    write_manifest,
)
from calibration.conversion.disk import as_artifact_error, disk_of, existing, size_of, sync_folder
from calibration.errors import ArtifactError

SOON_S = 0.3
"""Sweeping holds a lock for a moment: so short a wait is not worth a word."""


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
        return read_artifact(self.root / folder_name(key))

    def make(
        self,
        key: Mapping[str, str],
        build: Callable[[Path], object],
        *,
        what: str = "the artifact",
        needed_bytes: int = 0,
        waiting: Callable[[], None] | None = None,
        patience_s: float | None = None,
    ) -> Artifact:
        """Find the artifact, or let `build` fill an empty folder and make it appear, whole or not at all.

        Another process that wants the same artifact waits for it. What killed builds left, of this key or another, is
        deleted.

        Args:
            build: returns Watched where its process was watched; anything else is ignored.
            what: name of what is made, for the sentence about space: `the conversion`.
            needed_bytes: what the build will write; it does not begin where the disk has less.
            waiting: called once, when another process makes the same artifact.
            patience_s: how long to wait for that process; None: as long as it takes.

        Raises:
            ArtifactError: no space or no permission. What `build` raises is passed on, and nothing is left.
            TimeoutError: the other process was not done in time.
        """
        name = folder_name(key)
        lock = filelock.FileLock(self._lock(name))
        with as_artifact_error(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            _acquire(lock, waiting, patience_s)
        try:
            finished = self.get(key)
            if finished is not None:
                return finished
            for part in self.root.glob(f"{name}.part-*"):
                shutil.rmtree(part, ignore_errors=True)
            self._sweep(but=name)
            self._check_space(needed_bytes, what)
            return self._make(name, key, build)
        finally:
            lock.release()

    def free_bytes(self) -> int:
        """Bytes that are free on the disk that keeps the artifacts.

        Raises:
            ArtifactError: the disk does not say.
        """
        with as_artifact_error(self.root):
            return shutil.disk_usage(existing(self.root)).free

    def list(self) -> Sequence[Artifact]:
        """All that is finished, newest first."""
        if not self.root.is_dir():
            return []
        artifacts = [read_artifact(folder) for folder in self.root.iterdir() if folder.is_dir()]
        return sorted((a for a in artifacts if a is not None), key=lambda a: a.created_at, reverse=True)

    def unfinished(self) -> Sequence[Unfinished]:
        """What is being made now, and what killed builds left."""
        return [Unfinished(path=part, bytes=size_of(part)) for part in sorted(self.root.glob("*.part-*"))]

    def prune(
        self,
        *,
        older_than_days: float | None = None,
        kinds: Collection[str] = (),
        only: Callable[[Artifact], bool] = lambda _: True,
    ) -> Sequence[Artifact]:
        """Delete artifacts and what killed builds left.

        Args:
            older_than_days: only artifacts that are older; None: of any age.
            kinds: only artifacts of these kinds; empty: of all.
            only: which of them.

        Returns:
            What was deleted.

        Raises:
            ArtifactError: no permission.
        """
        before = time.time() - (older_than_days or 0.0) * 86400
        doomed = [a for a in self.list() if a.created_at <= before and (not kinds or a.kind in kinds) and only(a)]
        with as_artifact_error(self.root):
            for artifact in doomed:
                folder = artifact.path.parent
                # The manifest goes first: a half-deleted artifact must not look finished.
                (folder / MANIFEST).unlink()
                shutil.rmtree(folder)
            if self.root.is_dir():
                self._sweep()
        return doomed

    def _make(self, name: str, key: Mapping[str, str], build: Callable[[Path], object]) -> Artifact:
        part = self.root / f"{name}.part-{uuid.uuid4().hex[:8]}"
        content = part / CONTENT
        final = self.root / name
        try:
            with as_artifact_error(self.root):
                content.mkdir(parents=True)
            began = time.monotonic()
            with as_artifact_error(self.root, only_when_full=True):
                built = build(content)
            seconds = time.monotonic() - began
            with as_artifact_error(self.root):
                write_manifest(part, key, seconds, built if isinstance(built, Watched) else None)
                shutil.rmtree(final, ignore_errors=True)
                part.rename(final)
                sync_folder(self.root)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        artifact = read_artifact(final)
        if artifact is None:
            raise ArtifactError(f"{final} vanished while it was made", "run the command again")
        return artifact

    def _check_space(self, needed_bytes: int, what: str) -> None:
        if needed_bytes <= 0:
            return
        free = self.free_bytes()
        if free < needed_bytes:
            needed_gib, free_gib = (f"{count / 2**30:.1f} GiB" for count in (needed_bytes, free))
            raise ArtifactError(
                f"needs {needed_gib} on {disk_of(self.root)} for {what}; {free_gib} are free",
                "autobackend artifacts prune frees some, AUTOBACKEND_ARTIFACTS names a folder on another disk",
            )

    def _lock(self, name: str) -> Path:
        return self.root / f"{name}.lock"

    def _sweep(self, but: str = "") -> None:
        """Delete the parts that nobody is building: those whose lock is free.

        Args:
            but: name of an artifact whose lock this process holds.
        """
        for part in self.root.glob("*.part-*"):
            name = part.name.partition(".")[0]
            if name != but:
                lock = filelock.FileLock(self._lock(name))
                with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=0):
                    shutil.rmtree(part, ignore_errors=True)


def _acquire(lock: filelock.BaseFileLock, waiting: Callable[[], None] | None, patience_s: float | None) -> None:
    """Take a lock; call `waiting` where another process holds it. The wait is one of short sleeps, which Ctrl-C ends.

    Raises:
        TimeoutError: it was not free in time.
    """
    with contextlib.suppress(filelock.Timeout):
        lock.acquire(timeout=SOON_S if patience_s is None else min(SOON_S, patience_s))
        return
    if waiting is not None:
        waiting()
    lock.acquire(timeout=-1 if patience_s is None else max(0.0, patience_s - SOON_S))
