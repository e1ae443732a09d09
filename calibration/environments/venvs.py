"""The folder of the backends' virtual environments, in the user's data folder; each appears whole or not at all.

A virtual environment cannot be moved, since its scripts name its interpreter. So it is made in its final folder,
`BACKEND-HASH`, and counts from when its manifest is written, after everything else.
"""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock
import platformdirs

from calibration.environments.build import Apart, create, install_requirements
from calibration.environments.config_file import name_interpreter, named_interpreters
from calibration.environments.pip import PipFailed, Say
from calibration.environments.requirement_set import RequirementSet
from calibration.environments.source_files import SourceFiles
from calibration.environments.venv import Venv, Verified, delete, python_in, read, size_bytes, write_manifest
from calibration.errors import InstallError

_SPARE = 1.4
"""Free disk that an installation needs, in sizes of the set: the wheels lie beside what is unpacked from them."""


class Venvs:
    """The folder of all virtual environments.

    Args:
        root: by default AUTOBACKEND_ENVIRONMENTS, else `environments` in the user's data folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        chosen = root or os.environ.get("AUTOBACKEND_ENVIRONMENTS")
        folder = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("autobackend") / "environments"
        self.root = folder.absolute()

    def all(self) -> dict[str, Venv]:
        """Backend name: its virtual environment; the newest where a killed install left two."""
        venvs = [venv for folder in self._folders() if (venv := read(folder)) is not None]
        return {venv.backend: venv for venv in sorted(venvs, key=lambda venv: venv.verified.at)}

    def get(self, backend: str) -> Venv | None:
        """The virtual environment of a backend; None where it has none."""
        return self.all().get(backend)

    def log(self, backend: str) -> Path:
        """What pip and the engine printed when the backend's virtual environment was made last."""
        return self.root / f"{backend}.log"

    @contextlib.contextmanager
    def locked(self, backend: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep other processes from making or removing this backend's virtual environment.

        Args:
            waiting: is called when another process does so now and must be waited for.

        Raises:
            InstallError: no permission.
        """
        with _as_install_error(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.root / f"{backend}.lock")
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                waiting()
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def make(
        self,
        requirements: RequirementSet,
        base: Path,
        verify: Callable[[Path, Path], Verified],
        *,
        package: str,
        beside: Sequence[str] = (),
        source_files: SourceFiles | None = None,
        say: Say,
    ) -> Venv:
        """Make a backend's virtual environment, verify it, and name it in the config file. Call it while `locked`.

        The one that the backend had before is deleted.

        Args:
            base: the interpreter to build from.
            verify: is given the new interpreter and the log; raises where the engine does not work.
            package: the backend's own distribution.
            beside: distributions for folders of their own (`distributions.beside_folder`).
            source_files: what only the source distribution of `package` has, for a folder of its own.
            say: is told each step.

        Raises:
            InstallError: pip failed, with its reason; no space, no network, no permission. What `verify` raises is
                passed on. Nothing is left but the log.
        """
        backend = requirements.backend
        began = time.monotonic()
        self.sweep(backend)
        self.check_space(requirements)
        folder = self.root / f"{backend}-{uuid.uuid4().hex[:8]}"
        try:
            apart = Apart(package=package, beside=tuple(beside), source_files=source_files)
            self._build(requirements, base, folder, apart, say)
            say("verifying")
            verified = verify(python_in(folder), self.log(backend))
            venv = Venv(
                backend=backend,
                folder=folder,
                requirements=requirements.name,
                digest=requirements.digest,
                base=str(base),
                version=requirements.version(package),
                bytes=size_bytes(folder),
                seconds=time.monotonic() - began,
                verified=verified,
            )
            with _as_install_error(self.root):
                write_manifest(venv)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        name_interpreter(backend, venv.python)
        for earlier in self._folders(backend):
            if earlier != folder:
                delete(earlier)
        return venv

    def _build(self, requirements: RequirementSet, base: Path, folder: Path, apart: Apart, say: Say) -> None:
        log_file = self.log(requirements.backend)
        with _as_install_error(self.root), log_file.open("w", encoding="utf-8") as log:
            temporary = folder / "tmp"
            temporary.mkdir(parents=True)
            say("making the environment")
            create(base, folder, temporary, log)
            try:
                install_requirements(requirements, apart, folder, temporary=temporary, log=log, say=say)
            except PipFailed as failed:
                raise InstallError(
                    f"pip could not install {requirements.name}: {failed.reason}", f"all it said: {log_file}"
                ) from failed
            shutil.rmtree(temporary)

    def remove(self, backend: str) -> Venv | None:
        """Delete a backend's virtual environment; the config file no longer names it. Call it while `locked`.

        Returns:
            What was deleted; None where the backend has no virtual environment.

        Raises:
            InstallError: no permission.
        """
        venv = self.get(backend)
        named = named_interpreters().get(backend)
        if named is not None and self.owner(named) == backend:
            name_interpreter(backend, None)
        with _as_install_error(self.root):
            for folder in self._folders(backend):
                delete(folder)
        return venv

    def owner(self, python: Path) -> str:
        """The backend whose virtual environment an interpreter belongs to; empty where it belongs to none."""
        path = python.absolute()
        return _backend(self.root / path.relative_to(self.root).parts[0]) if path.is_relative_to(self.root) else ""

    def sweep(self, locked: str) -> None:
        """Delete what killed installs left, of the backend that is `locked` and of those that nobody is making."""
        for folder in self._folders():
            if read(folder) is not None:
                continue
            if _backend(folder) == locked:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                lock = filelock.FileLock(self.root / f"{_backend(folder)}.lock")
                with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=0):
                    if read(folder) is None:
                        shutil.rmtree(folder, ignore_errors=True)

    def check_space(self, requirements: RequirementSet) -> None:
        """Raises InstallError where the disk has no space for the set."""
        free = self.free_bytes()
        needed = int(requirements.bytes * _SPARE)
        if free < needed:
            raise InstallError(
                f"needs {needed / 2**30:.1f} GiB of free disk for {requirements.name};"
                f" {self.root} has {free / 2**30:.1f} GiB",
                "free some, or set AUTOBACKEND_ENVIRONMENTS to a folder on another disk",
            )

    def free_bytes(self) -> int:
        """Free disk where the virtual environments are, or will be."""
        folder = self.root
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def _folders(self, backend: str | None = None) -> list[Path]:
        try:
            folders = sorted(entry for entry in self.root.iterdir() if entry.is_dir() and "-" in entry.name)
        except FileNotFoundError:
            return []
        return [folder for folder in folders if backend is None or _backend(folder) == backend]


def _backend(folder: Path) -> str:
    """The backend that a folder is named after.

    >>> _backend(Path('llamacpp-1a2b3c4d'))
    'llamacpp'
    """
    return folder.name.rpartition("-")[0]


@contextlib.contextmanager
def _as_install_error(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise InstallError(
            f"{root} cannot be used: {error.strerror or error}{where}",
            "free some disk, or set AUTOBACKEND_ENVIRONMENTS to a folder of yours",
        ) from error
