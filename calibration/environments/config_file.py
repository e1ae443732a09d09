"""The user's config file: which interpreter runs a backend, and where the fleet's cache is. The rest stays as it is."""

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from calibration.errors import BackendError
from calibration.whole_file import write_whole


def config_path() -> Path:
    """AUTOBACKEND_CONFIG, or autobackend/config.toml in the user's configuration folder."""
    if chosen := os.environ.get("AUTOBACKEND_CONFIG"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "autobackend" / "config.toml"


def backend_python(name: str) -> Path:
    """The interpreter that runs a backend's worker: `[backends.NAME] python = "..."` of the config file, else our own.

    Whether the interpreter exists is checked by `packages.site_packages`.

    Raises:
        BackendError: the config file cannot be read, or its `python` is not a path.
    """
    path = config_path()
    changed = _changed(path)
    if changed is None:
        return Path(sys.executable)
    python = _config_as_of(path, changed).get(name)
    if python is None:
        return Path(sys.executable)
    # A relative path is relative to the config file.
    return path.parent / Path(python).expanduser()


def fleet_cache() -> str:
    """`fleet` of the config file's `[cache]`: a URL, or a path as it is read from the file's folder; empty: none.

    Raises:
        BackendError: the config file cannot be read, or its `fleet` is no text.
    """
    path = config_path()
    changed = _changed(path)
    if changed is None:
        return ""
    table = _content_as_of(path, changed).get("cache", {})
    fleet = table.get("fleet", "") if isinstance(table, dict) else table
    if not isinstance(table, dict) or not isinstance(fleet, str):
        raise BackendError(
            f"{path}: fleet of cache must be a path or a URL; found {fleet!r:.20}",
            'write it as [cache], and in the next line fleet = "/path/to/fleet.db"',
        )
    return fleet if "://" in fleet or not fleet else str(path.parent / Path(fleet).expanduser())


def _changed(path: Path) -> tuple[int, int] | None:
    """What differs once the file is another; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    # A file that was replaced within one tick of the clock has another inode.
    return status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=8)
def _config_as_of(path: Path, changed: tuple[int, int]) -> dict[str, str]:
    mend = 'write it as [backends.turbomind], and in the next line python = "/path/to/venv/bin/python"'
    try:
        content = _content_as_of(path, changed)
    except BackendError as error:
        raise BackendError(error.message, f"{mend}, or remove it") from error
    tables = content.get("backends", {})
    if not isinstance(tables, dict):
        raise BackendError(f"{path}: backends must be a table; found {tables!r}", mend)
    pythons: dict[str, str] = {}
    for backend, table in tables.items():
        python = table.get("python") if isinstance(table, dict) else table
        if python is None:
            continue
        if not isinstance(python, str) or not python:
            raise BackendError(f"{path}: python of {backend} must be a path; found {python!r}", mend)
        pythons[backend] = python
    return pythons


@lru_cache(maxsize=8)
def _content_as_of(path: Path, changed: tuple[int, int]) -> dict[str, Any]:  # noqa: ARG001  `changed` is part of the key only
    import tomllib  # most users have no such file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackendError(f"{path} cannot be read: {error}", "correct it, or remove it") from error


def named_interpreters() -> dict[str, Path]:
    """Backend name and the interpreter that the config file names for it.

    Raises:
        BackendError: the file cannot be read.
    """
    path = config_path().resolve()
    pythons = {
        name: table if isinstance(table, str) else table.get("python")
        for name, table in _tables(_read(path), path).items()
        if isinstance(table, str | dict)
    }
    return {name: path.parent / Path(python).expanduser() for name, python in pythons.items() if python}


def name_interpreter(backend: str, python: Path | None) -> None:
    """Write `[backends.BACKEND] python = PYTHON`; None takes it out again.

    Raises:
        BackendError: the file cannot be read or written.
    """
    import filelock
    import tomlkit

    path = config_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file itself may be a link into a folder of dotfiles.
        path = path.resolve()
        with filelock.FileLock(path.with_name(path.name + ".lock")):
            document = _read(path)
            tables = _tables(document, path)
            if python is not None:
                table = tables.get(backend)
                if isinstance(table, dict):
                    table["python"] = str(python)
                elif table is None:
                    if "backends" not in document:
                        document["backends"] = tables = tomlkit.table(is_super_table=True)
                    tables[backend] = tomlkit.table()
                    tables[backend]["python"] = str(python)
                else:
                    tables[backend] = str(python)
            elif backend not in tables:
                return
            else:
                table = tables[backend]
                if isinstance(table, dict):
                    table.pop("python", None)
                if not table or not isinstance(table, dict):
                    del tables[backend]
                if not tables:
                    del document["backends"]
            write_whole(path, tomlkit.dumps(document))
    except OSError as error:
        raise BackendError(
            f"{path} cannot be written: {error.strerror or error}", "set AUTOBACKEND_CONFIG to a file of yours"
        ) from error


def _read(path: Path) -> Any:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, ValueError, TOMLKitError) as error:
        raise BackendError(f"{path} cannot be read: {error}", "correct it, or remove it") from error


def _tables(document: Any, path: Path) -> Any:
    tables = document.get("backends", {})
    if not isinstance(tables, dict):
        raise BackendError(f"{path}: backends must be a table; found {tables!r}", "correct it, or remove it")
    return tables
