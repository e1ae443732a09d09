"""Writes the interpreter of a backend into the user's config file, and leaves the rest of it as the user wrote it."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import filelock

from calibration.environment import config_path
from calibration.errors import BackendError


def named_interpreters() -> dict[str, Path]:
    """Backend name: the interpreter that the config file names for it.

    Raises:
        BackendError: the file cannot be read.
    """
    path = config_path().resolve()
    found = _tables(_read(path), path)
    chosen = {
        name: table if isinstance(table, str) else table.get("python")
        for name, table in found.items()
        if isinstance(table, str | dict)
    }
    return {name: path.parent / Path(python).expanduser() for name, python in chosen.items() if python}


def name_interpreter(backend: str, python: Path | None) -> None:
    """Write `[backends.BACKEND] python = PYTHON`; None takes it out again.

    Raises:
        BackendError: the file cannot be read or written.
    """
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
            _replace(path, tomlkit.dumps(document))
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


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, with the mode that the file has."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mode = 0o644
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode & 0o777
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
