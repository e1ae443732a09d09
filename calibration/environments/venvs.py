"""Rooms: virtual environments of the backends' own, in the user's data folder; each appears whole or not at all.

A virtual environment cannot be moved (its scripts name its interpreter), so a room is made in its final folder,
`BACKEND-HASH`, and becomes a room when its manifest is written, after everything else.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import platformdirs

from calibration.environments.config_file import name_interpreter, named_interpreters
from calibration.environments.distributions import beside_folder
from calibration.environments.lifeline import Guarded
from calibration.environments.pip import PipFailed, Say, install, variables
from calibration.environments.requirement_set import RequirementSet
from calibration.errors import InstallError

MANIFEST = "room.json"
LEAST_PYTHON = (3, 11)
"""Of the worker's side of this program."""
_SPARE = 1.4
"""Free disk that making a room needs, in sizes of the room: the wheels lie beside what is unpacked from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A tiny model's answer in a room."""

    candidate: str
    tokens: tuple[int, ...]
    seconds: float
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv:
    """A finished environment."""

    backend: str
    folder: Path
    requirements: str
    """Name of the requirement set, `llamacpp-cpu`."""
    digest: str
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
        return _python(self.folder)


class Venvs:
    """A folder of rooms.

    Args:
        root: by default AUTOBACKEND_ENVIRONMENTS, else `environments` in the user's data folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        chosen = root or os.environ.get("AUTOBACKEND_ENVIRONMENTS")
        found = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("autobackend") / "environments"
        self.root = found.absolute()

    def all(self) -> dict[str, Venv]:
        """Backend name: its room; the newest where a killed install left two."""
        found = [_read(folder) for folder in self._folders()]
        finished = sorted((r for r in found if r is not None), key=lambda r: r.verified.at)
        return {room.backend: room for room in finished}

    def get(self, backend: str) -> Venv | None:
        """The room of a backend; None where it has none."""
        return self.all().get(backend)

    def log(self, backend: str) -> Path:
        """What pip and the engine printed when the backend's room was made last."""
        return self.root / f"{backend}.log"

    @contextlib.contextmanager
    def held(self, backend: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep others from making or removing this backend's room; `waiting` is called when somebody else does.

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
        wanted: RequirementSet,
        base: Path,
        verify: Callable[[Path, Path], Verified],
        *,
        package: str,
        beside: Sequence[str] = (),
        say: Say,
    ) -> Venv:
        """Make a backend's room, verify it, let the config file name it; the room it had before goes. Call it `held`.

        Args:
            base: the interpreter to build from.
            verify: is given the new interpreter and the log; raises where the engine does not work.
            package: the backend's own distribution.
            beside: distributions for folders of their own (environment.beside_folder).
            say: is told each step.

        Raises:
            InstallError: pip failed, with its reason; no space, no network, no permission. What `verify` raises is
                passed on. Nothing is left but the log.
        """
        backend = wanted.backend
        began = time.monotonic()
        self.sweep(backend)
        self.check_space(wanted)
        folder = self.root / f"{backend}-{uuid.uuid4().hex[:8]}"
        try:
            with _as_install_error(self.root), self.log(backend).open("w", encoding="utf-8") as log:
                temporary = folder / "tmp"
                temporary.mkdir(parents=True)
                say("making the environment")
                _create(base, folder, temporary, log.write)
                python = _python(folder)
                count = len(wanted.pins)

                def pip(what: str, *arguments: str) -> None:
                    install(python, arguments, what=f"installing {what}", temporary=temporary, log=log, say=say)

                try:
                    _local_versions(wanted, pip)
                    pip("1 package" if count == 1 else f"{count} packages", "--requirement", str(wanted.file))
                    for pin in beside:
                        apart = beside_folder(python, pin.partition("==")[0])
                        pip(pin, "--target", str(apart), pin)
                except PipFailed as failed:
                    raise InstallError(
                        f"pip could not install {wanted.name}: {failed.reason}", f"all it said: {self.log(backend)}"
                    ) from failed
                shutil.rmtree(temporary)
            say("verifying")
            verified = verify(python, self.log(backend))
            room = Venv(
                backend=backend,
                folder=folder,
                requirements=wanted.name,
                digest=wanted.digest,
                base=str(base),
                version=wanted.version(package),
                bytes=_bytes(folder),
                seconds=time.monotonic() - began,
                verified=verified,
            )
            with _as_install_error(self.root):
                _write_through(folder / MANIFEST, room)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        name_interpreter(backend, room.python)
        for old in self._folders(backend):
            if old != folder:
                _delete(old)
        return room

    def remove(self, backend: str) -> Venv | None:
        """Delete a backend's room, and its name in the config file where it is the one named. Call it `held`.

        Returns:
            What was deleted; None where the backend has no room.

        Raises:
            InstallError: no permission.
        """
        found = self.get(backend)
        named = named_interpreters().get(backend)
        if named is not None and self.owner(named) == backend:
            name_interpreter(backend, None)
        with _as_install_error(self.root):
            for folder in self._folders(backend):
                _delete(folder)
        return found

    def owner(self, python: Path) -> str:
        """The backend whose room an interpreter is in; empty where it is in none."""
        path = python.absolute()
        return _backend(self.root / path.relative_to(self.root).parts[0]) if path.is_relative_to(self.root) else ""

    def sweep(self, held: str) -> None:
        """Delete what killed installs left, of the backend that is `held` and of those that nobody is making."""
        for folder in self._folders():
            if _read(folder) is not None:
                continue
            if _backend(folder) == held:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                lock = filelock.FileLock(self.root / f"{_backend(folder)}.lock")
                with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=0):
                    if _read(folder) is None:
                        shutil.rmtree(folder, ignore_errors=True)

    def check_space(self, wanted: RequirementSet) -> None:
        """Raises InstallError where the disk has no room for the set."""
        free = self.free_bytes()
        needed = int(wanted.bytes * _SPARE)
        if free < needed:
            raise InstallError(
                f"needs {needed / 2**30:.1f} GiB of free disk for {wanted.name};"
                f" {self.root} has {free / 2**30:.1f} GiB",
                "free some, or set AUTOBACKEND_ENVIRONMENTS to a folder on another disk",
            )

    def free_bytes(self) -> int:
        """Free disk where the rooms are, or will be."""
        place = self.root
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    def _folders(self, backend: str | None = None) -> list[Path]:
        try:
            found = [f for f in self.root.iterdir() if f.is_dir() and "-" in f.name]
        except FileNotFoundError:
            return []
        return [f for f in sorted(found) if backend is None or _backend(f) == backend]


def base_python(python: Path) -> str:
    """The version of an interpreter that environments can be built from, `3.11`.

    Raises:
        InstallError: it does not run, is too old, or cannot make environments.
    """
    least = ".".join(map(str, LEAST_PYTHON))
    mend = f"name another: --python /path/to/python{least}"
    code = "import sys; print('%d.%d' % sys.version_info[:2]); import ensurepip, venv; print('whole')"
    lines: list[str] = []
    with Guarded([str(python), "-I", "-c", code], environment=dict(os.environ)) as running:
        lines += running.lines()
        status = running.wait()
    version = lines[0] if lines else ""
    if not version.replace(".", "", 1).isdigit():
        raise InstallError(f"{python} does not run: {version or f'exit code {status}'}", mend)
    if tuple(map(int, version.split("."))) < LEAST_PYTHON:
        raise InstallError(f"needs Python >= {least}; {python} is {version}", mend)
    if "whole" not in lines:
        raise InstallError(
            f"{python} cannot make environments: {lines[-1]}", f"on Debian and Ubuntu: apt install python{version}-venv"
        )
    return version


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _backend(folder: Path) -> str:
    return folder.name.rpartition("-")[0]


def _create(base: Path, folder: Path, temporary: Path, log: Callable[[str], object]) -> None:
    """Raises InstallError where venv fails."""
    command = [str(base), "-I", "-m", "venv", str(folder)]
    log("$ " + " ".join(command) + "\n")
    with Guarded(command, environment=variables(temporary)) as making:
        lines = list(making.lines())
        code = making.wait()
    log("".join(line + "\n" for line in lines))
    if code:
        said = "; ".join(line.strip() for line in lines[-2:] if line.strip())
        raise InstallError(f"{base} could not make {folder}: {said or f'exit code {code}'}")


def _local_versions(wanted: RequirementSet, pip: Callable[..., None]) -> None:
    """Install `+cpu` builds first, by themselves, so that no other distribution is looked for on their index.

    A mirror or a folder of wheels that the user's pip knows may carry them; PyPI does not. With their index
    in the call for all, each of the other distributions would be asked for there too, which takes minutes where it
    cannot be reached, and would let it answer for them.
    """
    if not wanted.local:
        return
    what = " ".join(wanted.local)
    try:
        pip(what, *wanted.local)
    except PipFailed as failed:
        if not wanted.index or not failed.not_found:
            raise
        pip(what, "--index-url", wanted.index, *wanted.local)


def _read(folder: Path) -> Venv | None:
    """The room in a folder; None where it is not finished or its manifest is no manifest."""
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        verified = told.pop("verified")
        if not _python(folder).exists():
            return None
        return Venv(
            **{**told, "folder": folder},
            verified=Verified(**{**verified, "tokens": tuple(verified["tokens"])}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_through(file: Path, room: Venv) -> None:
    told = asdict(room)
    del told["folder"]
    unfinished = file.with_name(f"{file.name}.part")
    with unfinished.open("w", encoding="utf-8") as out:
        json.dump(told, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    unfinished.rename(file)


def _delete(folder: Path) -> None:
    # The manifest goes first: a half-deleted room must not look finished.
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _bytes(folder: Path) -> int:
    return sum(entry.lstat().st_size for entry in folder.rglob("*") if not entry.is_symlink() and entry.is_file())


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
