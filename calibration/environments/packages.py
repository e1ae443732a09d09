"""Which packages an interpreter has, in which versions; nothing is imported or run."""

import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from calibration.environments.config_file import config_path
from calibration.environments.distributions import beside_folder, normalise
from calibration.errors import BackendError

_VERSIONED = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-py[\d.]+)?(?:-[^-]+)?\.(?:dist|egg)-info")
_PYTHON_FOLDER = re.compile(r"python(\d+\.\d+)t?")


def site_packages(python: Path) -> tuple[Path, ...]:
    """Folders in which an interpreter finds its packages, in the order of its path; the interpreter is not run.

    Our own interpreter: `sys.path`. Another: PYTHONPATH (a worker inherits it), the venv's folder (pyvenv.cfg; with
    include-system-site-packages also its home's), or the folders beside a plain interpreter; and the folders that
    .pth files in these name.

    Raises:
        BackendError: there is no such interpreter.
    """
    if _same(python, Path(sys.executable)):
        folders = [Path(p) for p in sys.path if p and Path(p).name != "lib-dynload"]
        # sys.path also names the standard library and the script's folder: neither holds distributions.
        return tuple(f for f in folders if f.name in {"site-packages", "dist-packages"} or _scan(f).versions)
    if not python.is_file():
        raise BackendError(f"interpreter {python} does not exist", f"name an existing one in {config_path()}")
    inherited = [Path(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    # In most environments lib64 is a link to lib.
    existing = {f.resolve(): f for f in reversed((*inherited, *_layout(python))) if f.is_dir()}
    searched = dict.fromkeys(reversed(existing.values()))
    for folder in tuple(searched):
        searched.update(dict.fromkeys(_scan(folder).linked))
    return tuple(searched)


def installed(python: Path) -> dict[str, str]:
    """Normalised name and version of every distribution an interpreter finds.

    Read from the names of the *.dist-info folders, and remembered until a folder changes.

    Raises:
        BackendError: there is no such interpreter.
    """
    versions: dict[str, str] = {}
    for folder in reversed(site_packages(python)):
        versions.update(_scan(folder).versions)
    return versions


def python_version(python: Path) -> str:
    """`3.11`; `unknown` where neither pyvenv.cfg nor the name of a file or folder says it."""
    if _same(python, Path(sys.executable)):
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    settings = _venv_settings(python)
    written = settings.get("version") or settings.get("version_info") or ""
    if version := re.match(r"\d+\.\d+", written):
        return version[0]
    for name in (python.name, python.resolve().name):
        if version := _PYTHON_FOLDER.fullmatch(name):
            return version[1]
    folders = {m[1] for f in (python.parent.parent / "lib").glob("python3*") if (m := _PYTHON_FOLDER.fullmatch(f.name))}
    return folders.pop() if len(folders) == 1 else "unknown"


def _layout(python: Path) -> Iterator[Path]:
    """Folders where packages may be, whether they exist or not."""
    settings = _venv_settings(python)
    name = f"python{python_version(python)}"
    if settings:
        prefix = python.parent.parent
        yield from (prefix / lib / name / "site-packages" for lib in ("lib", "lib64"))
        if settings.get("include-system-site-packages", "false").lower() != "true":
            return
        prefix = Path(settings.get("home", python.resolve().parent)).parent
    else:
        prefix = python.resolve().parent.parent
    if not os.environ.get("PYTHONNOUSERSITE"):
        base = os.environ.get("PYTHONUSERBASE") or Path.home() / ".local"
        yield Path(base) / "lib" / name / "site-packages"
    # Debian keeps what pip installs apart from what apt installs, and neither is called site-packages.
    yield prefix / "local" / "lib" / name / "dist-packages"
    yield from (prefix / "lib" / name / "site-packages", prefix / "lib64" / name / "site-packages")
    yield from (prefix / "lib" / name / "dist-packages", prefix / "lib" / "python3" / "dist-packages")


def beside(python: Path, name: str) -> str | None:
    """The version of a distribution that an interpreter keeps apart (`beside_folder`); None where it is not there."""
    return _scan(beside_folder(python, name)).versions.get(normalise(name))


def _venv_settings(python: Path) -> dict[str, str]:
    """pyvenv.cfg of the interpreter's virtual environment; empty where it is a plain interpreter."""
    try:
        text = (python.parent.parent / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _same(python: Path, executable: Path) -> bool:
    # Not resolved: the interpreters of two venvs are links to one file.
    return os.path.abspath(python) == os.path.abspath(executable)  # noqa: PTH100  Path.absolute keeps ".." parts


class _Scan:
    """Distributions of one folder and the folders that its .pth files add."""

    __slots__ = ("linked", "versions")

    def __init__(self, folder: Path) -> None:
        self.versions: dict[str, str] = {}
        self.linked: list[Path] = []
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208  strings are enough, and ten times faster
        except OSError:
            return
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                self._distribution(folder / name)
            elif name.endswith(".pth"):
                self._links(folder / name)

    def _distribution(self, entry: Path) -> None:
        if match := _VERSIONED.fullmatch(entry.name):
            self.versions[normalise(match["name"])] = match["version"]
            return
        # A development install's egg-info has no version in its name.
        for file in (entry / "METADATA", entry / "PKG-INFO", entry):
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            fields = dict(re.findall(r"^(Name|Version): *(\S+)", text, re.MULTILINE))
            if len(fields) == 2:
                self.versions[normalise(fields["Name"])] = fields["Version"]
                return

    def _links(self, file: Path) -> None:
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                folder = file.parent / line.strip()
                if folder.is_dir():
                    self.linked.append(folder)


def _scan(folder: Path) -> _Scan:
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        changed = -1
    return _scan_as_of(folder, changed)


@lru_cache(maxsize=256)
def _scan_as_of(folder: Path, changed: int) -> _Scan:  # noqa: ARG001  `changed` is part of the key only
    return _Scan(folder)
