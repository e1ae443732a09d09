"""Installs backends into rooms of their own: which set, whether it fits this machine, how far it is."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from calibration.backend import Backend
from calibration.environments.config_file import name_interpreter, named_interpreters
from calibration.environments.distributions import normalise, requirement_name
from calibration.environments.lifeline import Guarded
from calibration.environments.requirement_set import RequirementSet
from calibration.environments.venvs import LEAST_PYTHON, Venv, Venvs, Verified, base_python
from calibration.errors import AutobackendError, BackendError, InstallError, UsageError
from calibration.registry import all_backends, foreign_source, source_file
from selector.host.kinds import KINDS
from selector.host.spec import HostSpec, Installation
from selector.install.smoke_test import unfit, usable, verify
from selector.rules.install import lacking, what_is

_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")
"""Variables that hide devices where they are empty."""


class Reporter(Protocol):
    """Is told how far an installation is."""

    def event(self, name: str, **fields: object) -> None:
        """`plan` (wanted, root, free_bytes, base, version), `waiting` (backend), `step` (backend, what, now)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A backend has a room."""

    room: Venv
    new: bool
    """Made now; else it was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A backend that `--all` leaves out."""

    backend: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A backend whose room could not be made, among others."""

    backend: str
    error: AutobackendError


Outcome = Installed | Skipped | Failed


def install_all(reporter: Reporter, *, python: Path | None = None, device: str | None = None) -> list[Outcome]:
    """Install every backend that this machine runs and that is usable nowhere yet; skip the others with a reason.

    Raises:
        UsageError: a device kind that is not here.
    """
    host = _host(device)
    outcomes: list[Outcome] = []
    for name, backend in all_backends().items():
        reasons = unfit(backend, host)
        if reasons:
            outcomes.append(Skipped(backend=name, reason="; ".join(reasons)))
        elif usable(backend, host):
            outcomes.append(Skipped(backend=name, reason=f"it runs already, in {host.installations[name].python}"))
        elif _wanted(backend, host.device.kind) is None:
            outcomes.append(Skipped(backend=name, reason=_no_set(backend, host.device.kind)))
        else:
            outcomes.append(_outcome(backend, reporter, python, device))
    return outcomes


def install_named(
    backends: Sequence[Backend], reporter: Reporter, *, python: Path | None = None, device: str | None = None
) -> list[Outcome]:
    """Install some backends; of several, one that fails does not keep the others from theirs.

    Raises:
        AutobackendError: the only one failed (see install).
    """
    if len(backends) == 1:
        return [install(backends[0], reporter, python=python, device=device)]
    return [_outcome(backend, reporter, python, device) for backend in backends]


def install(
    backend: Backend, reporter: Reporter, *, python: Path | None = None, device: str | None = None
) -> Installed:
    """Make a backend's room from its requirement set, verify it, and let the config file name it.

    Args:
        python: the interpreter to build from; None: our own.
        device: device kind; None: this host's.

    Raises:
        InstallError: it cannot be made, with pip's or the engine's own reason; nothing is left of it.
        UsageError: it has no set for the device, or cannot run here.
        BackendError: the config file cannot be read or written.
    """
    host = _host(device)
    kind = host.device.kind
    reasons = unfit(backend, host)
    if reasons:
        raise UsageError("\n  ".join([f"{backend.name} cannot run on this host", *reasons]))
    wanted = _wanted(backend, kind)
    if wanted is None:
        raise UsageError(_no_set(backend, kind), backend.facts.install)
    base = python or Path(sys.executable)
    version = base_python(base)
    rooms = Venvs()
    facts = backend.facts.on(kind)
    with rooms.held(backend.name, waiting=lambda: reporter.event("waiting", backend=backend.name)):
        found = rooms.get(backend.name)
        if found is not None and found.digest == wanted.digest and (python is None or found.base == str(base)):
            if named_interpreters().get(backend.name) != found.python:
                name_interpreter(backend.name, found.python)
            return Installed(room=found, new=False)
        reporter.event(
            "plan", wanted=wanted, root=rooms.root, free_bytes=rooms.free_bytes(), base=base, version=version
        )

        def verified(room: Path, log: Path) -> Verified:
            return verify(backend, room, host, log=log, source=foreign_source(backend))

        room = rooms.make(
            wanted,
            base,
            verified,
            package=facts.package,
            beside=facts.beside,
            say=lambda what, now="": reporter.event("step", backend=backend.name, what=what, now=now),
        )
        return Installed(room=room, new=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What `remove` did."""

    room: Venv | None
    """What was deleted."""
    unnamed: Path | None
    """The interpreter that the config file named and that is not ours."""


def remove(backend: Backend) -> Removed:
    """Delete a backend's room; an interpreter that the user named is only taken out of the config file.

    Raises:
        UsageError: it has neither.
        InstallError: another backend runs in the room, or the room cannot be deleted.
    """
    rooms, name = Venvs(), backend.name
    named = named_interpreters()
    guests = [other for other, python in named.items() if other != name and rooms.owner(python) == name]
    if guests:
        raise InstallError(
            f"{' and '.join(guests)} also runs in the environment of {name}",
            f"autobackend backends use {guests[0]} --default",
        )
    foreign = named.get(name)
    if foreign is not None and rooms.owner(foreign) == name:
        foreign = None
    with rooms.held(name):
        rooms.sweep(name)
        room = rooms.remove(name)
    if room is None and foreign is not None:
        name_interpreter(name, None)
        return Removed(room=None, unnamed=foreign)
    if room is None:
        raise UsageError(f"{name} has no environment of its own", "see what there is: autobackend backends list")
    return Removed(room=room, unnamed=None)


def use(backend: Backend, python: Path) -> Path:
    """Let the config file name an interpreter that exists for a backend.

    Args:
        python: the interpreter, or the folder of a virtual environment.

    Returns:
        The interpreter.

    Raises:
        BackendError: it does not run, is too old, or lacks what the backend needs.
    """
    chosen = Path(os.path.abspath(python.expanduser()))  # noqa: PTH100  links are kept: a venv's python is one
    if chosen.is_dir():
        chosen = chosen / "bin" / "python"
    if not chosen.is_file():
        raise BackendError(f"interpreter {chosen} does not exist", "name one: --python /path/to/venv/bin/python")
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    with Guarded([str(chosen), "-c", code], environment=dict(os.environ)) as running:
        lines = list(running.lines())
        status = running.wait()
    version = lines[-1] if lines else ""
    if status or not version.replace(".", "", 1).isdigit():
        raise BackendError(f"{chosen} does not run: {version or f'exit code {status}'}")
    if tuple(map(int, version.split("."))) < LEAST_PYTHON:
        raise BackendError(f"needs Python >= {'.'.join(map(str, LEAST_PYTHON))}; {chosen} is {version}")
    facts = backend.facts.on(HostSpec.detect(backends={}).device.kind)
    installation = Installation.detect(chosen)
    named = {requirement_name(requirement) for requirement in facts.requires}
    package = () if normalise(facts.package) in named else (facts.package,)
    missing = lacking((*package, *facts.requires), installation)
    if missing:
        quoted = " ".join(f'"{requirement}"' for requirement in missing)
        raise BackendError(
            f"{backend.name} needs {', '.join(missing)} in {chosen}; {what_is(missing, installation)}",
            f"{chosen} -m pip install {quoted}",
        )
    name_interpreter(backend.name, chosen)
    return chosen


def use_default(backend: Backend) -> Path | None:
    """Go back to our own interpreter.

    Returns:
        The interpreter that was named; None where none was.
    """
    named = named_interpreters().get(backend.name)
    name_interpreter(backend.name, None)
    return named


def _outcome(backend: Backend, reporter: Reporter, python: Path | None, device: str | None) -> Outcome:
    try:
        return install(backend, reporter, python=python, device=device)
    except AutobackendError as error:
        return Failed(backend=backend.name, error=error)


def _host(device: str | None) -> HostSpec:
    """This host, with the device of the kind asked for as its first.

    Raises:
        UsageError: it has none.
    """
    if device == "cpu":
        return HostSpec.detect(environ={**os.environ, **dict.fromkeys(_VISIBLE, "")})
    host = HostSpec.detect()
    if device is None:
        return host
    found = tuple(d for d in host.devices if d.kind == device)
    if not found:
        raise UsageError(f"needs {KINDS.get(device, device)}; this host's device is {host.device.name}")
    return replace(host, devices=found)


def _wanted(backend: Backend, kind: str) -> RequirementSet | None:
    return RequirementSet.find(backend.name, kind, _sets(backend))


def _sets(backend: Backend) -> Path:
    """The folder of a backend's requirement sets: `requirements` beside its file."""
    return source_file(backend).parent / "requirements"


def _no_set(backend: Backend, kind: str) -> str:
    others = RequirementSet.devices(backend.name, _sets(backend))
    there = f"there is one for {' and '.join(KINDS.get(k, k) for k in others)}" if others else "there is none"
    return f"needs a requirement set of {backend.name} for {KINDS.get(kind, kind)}; {there}"
