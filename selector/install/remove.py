"""Deletes a backend's virtual environment."""

from dataclasses import dataclass
from pathlib import Path

from calibration.backend import Backend
from calibration.environments.config_file import name_interpreter, named_interpreters
from calibration.environments.venv import Venv
from calibration.environments.venvs import Venvs
from calibration.errors import InstallError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """The virtual environment is gone."""

    venv: Venv


@dataclass(frozen=True, slots=True, kw_only=True)
class Unnamed:
    """The config file no longer names the user's own interpreter, which stays as it is."""

    python: Path


def remove(backend: Backend) -> Deleted | Unnamed:
    """Delete a backend's virtual environment; where it has none, take its interpreter out of the config file.

    Raises:
        UsageError: it has neither.
        InstallError: another backend runs in the virtual environment, or it cannot be deleted.
    """
    venvs, name = Venvs(), backend.name
    named = named_interpreters()
    guests = [guest for guest, python in named.items() if guest != name and venvs.owner(python) == name]
    if guests:
        raise InstallError(
            f"{' and '.join(guests)} also runs in the environment of {name}",
            f"autobackend backends use {guests[0]} --default",
        )
    with venvs.locked(name):
        venvs.sweep(name)
        venv = venvs.remove(name)
    if venv is not None:
        return Deleted(venv=venv)
    python = named.get(name)
    if python is None or venvs.owner(python) == name:
        raise UsageError(f"{name} has no environment of its own", "see what there is: autobackend backends list")
    name_interpreter(name, None)
    return Unnamed(python=python)
