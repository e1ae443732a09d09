"""Builds a virtual environment: from which interpreter, and what pip installs into it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from calibration.environments.distributions import beside_folder
from calibration.environments.fetch import fetch
from calibration.environments.lifeline import Guarded
from calibration.environments.pip import PipFailed, Say, install, variables
from calibration.environments.requirement_set import RequirementSet
from calibration.environments.source_files import SourceFiles
from calibration.environments.venv import python_in
from calibration.errors import InstallError

LEAST_PYTHON = (3, 11)
"""Of the worker's side of this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """What an environment keeps in folders of their own (`distributions.beside_folder`)."""

    package: str
    """The backend's own distribution."""
    beside: tuple[str, ...] = ()
    """Distributions, `name==version`."""
    source_files: SourceFiles | None = None
    """Of `package`, in the version of the requirement set."""


def base_python(python: Path) -> str:
    """The version of an interpreter that virtual environments can be built from, `3.11`.

    Raises:
        InstallError: it does not run, is too old, or cannot make virtual environments.
    """
    least = ".".join(map(str, LEAST_PYTHON))
    mend = f"name another: --python /path/to/python{least}"
    code = "import sys; print('%d.%d' % sys.version_info[:2]); import ensurepip, venv; print('whole')"
    with Guarded([str(python), "-I", "-c", code], variables=dict(os.environ)) as running:
        lines = list(running.lines())
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


def create(base: Path, folder: Path, temporary: Path, log: IO[str]) -> None:
    """Make an empty virtual environment with pip.

    Args:
        base: the interpreter to build from.
        folder: its final place.
        temporary: an existing folder for what is unpacked.
        log: takes all that is printed.

    Raises:
        InstallError: `python -m venv` fails.
        OSError: the log cannot be written, or nothing can be started.
    """
    command = [str(base), "-I", "-m", "venv", str(folder)]
    log.write("$ " + " ".join(command) + "\n")
    with Guarded(command, variables=variables(temporary)) as making:
        lines = list(making.lines())
        code = making.wait()
    log.write("".join(line + "\n" for line in lines))
    if code:
        reason = "; ".join(line.strip() for line in lines[-2:] if line.strip()) or f"exit code {code}"
        raise InstallError(f"{base} could not make {folder}: {reason}")


def install_requirements(
    requirements: RequirementSet, apart: Apart, folder: Path, *, temporary: Path, log: IO[str], say: Say
) -> None:
    """Install a requirement set into a virtual environment, and what is kept apart into folders of its own.

    Raises:
        PipFailed: with pip's reason.
        InstallError: nobody noted the hash of the source distribution that the set needs.
        OSError: pip cannot be started.
    """
    python = python_in(folder)

    def pip(what: str, *arguments: str) -> None:
        install(python, arguments, what=f"installing {what}", temporary=temporary, log=log, say=say)

    _install_local_versions(requirements, pip)
    count = len(requirements.pins)
    pip("1 package" if count == 1 else f"{count} packages", "--requirement", str(requirements.file))
    for pin in apart.beside:
        pip(pin, "--target", str(beside_folder(python, pin.partition("==")[0])), pin)
    if apart.source_files is not None:
        version = requirements.version(apart.package)
        fetch(python, apart.source_files, apart.package, version, temporary=temporary, log=log, say=say)


def _install_local_versions(requirements: RequirementSet, pip: Callable[..., None]) -> None:
    """Install `+cpu` builds first, by themselves, so that pip looks for no other distribution on their index.

    PyPI does not carry these builds; a mirror or a folder of wheels that the user's pip knows may. If one call of pip
    knew their index as well, it would ask it for each of the other distributions. That takes minutes where the index
    cannot be reached, and the index could answer for them.
    """
    if not requirements.local:
        return
    what = " ".join(requirements.local)
    try:
        pip(what, *requirements.local)
    except PipFailed as failed:
        if not requirements.index or not failed.not_found:
            raise
        pip(what, "--index-url", requirements.index, *requirements.local)
