"""Installs backends into virtual environments of their own: which versions, and how far it is."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.backend import Backend
from calibration.environments.build import base_python
from calibration.environments.config_file import name_interpreter, named_interpreters
from calibration.environments.requirement_set import RequirementSet
from calibration.environments.venv import Verified
from calibration.environments.venvs import Venvs
from calibration.errors import AutobackendError, UsageError
from calibration.events import Reporter
from calibration.registry import all_backends, foreign_source, source_file
from selector.host.kinds import HIDING_VARIABLES, title
from selector.host.spec import HostSpec
from selector.install.outcome import Failed, Installed, Outcome, Skipped
from selector.install.smoke_test import unfit, usable, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPlanned:
    """What will be installed, where, and what it will take."""

    requirements: RequirementSet
    root: Path
    free_bytes: int
    base: Path
    """The interpreter that the virtual environment is built from."""
    version: str
    """Of that interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForInstall:
    """Another process installs the same backend; this one waits for it."""

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallStep:
    backend: str
    what: str
    now: str
    """What of it is done right now; may be empty."""


InstallEvent = InstallPlanned | WaitingForInstall | InstallStep


def install_all(
    reporter: Reporter[InstallEvent], *, python: Path | None = None, device: str | None = None
) -> list[Outcome]:
    """Install every backend that this machine can run and that runs nowhere yet; skip the others with a reason.

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
        elif _requirements(backend, host.device.kind) is None:
            outcomes.append(Skipped(backend=name, reason=_no_set(backend, host.device.kind)))
        else:
            outcomes.append(_outcome(backend, reporter, python, device))
    return outcomes


def install_named(
    backends: Sequence[Backend],
    reporter: Reporter[InstallEvent],
    *,
    python: Path | None = None,
    device: str | None = None,
) -> list[Outcome]:
    """Install some backends; one of several that fails does not keep the others from being installed.

    Raises:
        AutobackendError: the only one failed (see install).
    """
    if len(backends) == 1:
        return [install(backends[0], reporter, python=python, device=device)]
    return [_outcome(backend, reporter, python, device) for backend in backends]


def install(
    backend: Backend, reporter: Reporter[InstallEvent], *, python: Path | None = None, device: str | None = None
) -> Installed:
    """Make a backend's virtual environment from its requirement set, verify it, and name it in the config file.

    Args:
        python: the interpreter to build from; None: our own.
        device: device kind; None: this host's.

    Raises:
        InstallError: it cannot be made, with pip's or the engine's own reason; nothing is left of it.
        UsageError: the backend has no set for the device, or cannot run here.
        BackendError: the config file cannot be read or written.
    """
    host = _host(device)
    kind = host.device.kind
    reasons = unfit(backend, host)
    if reasons:
        raise UsageError("\n  ".join([f"{backend.name} cannot run on this host", *reasons]))
    requirements = _requirements(backend, kind)
    if requirements is None:
        raise UsageError(_no_set(backend, kind), backend.facts.install)
    base = python or Path(sys.executable)
    version = base_python(base)
    venvs = Venvs()
    facts = backend.facts.on(kind)
    with venvs.locked(backend.name, waiting=lambda: reporter.report(WaitingForInstall(backend=backend.name))):
        venv = venvs.get(backend.name)
        if venv is not None and venv.digest == requirements.digest and (python is None or venv.base == str(base)):
            if named_interpreters().get(backend.name) != venv.python:
                name_interpreter(backend.name, venv.python)
            return Installed(venv=venv, new=False)
        reporter.report(
            InstallPlanned(
                requirements=requirements, root=venvs.root, free_bytes=venvs.free_bytes(), base=base, version=version
            )
        )

        def verified(interpreter: Path, log: Path) -> Verified:
            return verify(backend, interpreter, host, log=log, source=foreign_source(backend))

        venv = venvs.make(
            requirements,
            base,
            verified,
            package=facts.package,
            beside=facts.beside,
            source_files=facts.source_files,
            say=lambda what, now="": reporter.report(InstallStep(backend=backend.name, what=what, now=now)),
        )
        return Installed(venv=venv, new=True)


def _outcome(backend: Backend, reporter: Reporter[InstallEvent], python: Path | None, device: str | None) -> Outcome:
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
        return HostSpec.detect(environ={**os.environ, **dict.fromkeys(HIDING_VARIABLES, "")})
    host = HostSpec.detect()
    if device is None:
        return host
    devices = tuple(d for d in host.devices if d.kind == device)
    if not devices:
        raise UsageError(f"needs {title(device)}; this host's device is {host.device.name}")
    return replace(host, devices=devices)


def _requirements(backend: Backend, kind: str) -> RequirementSet | None:
    return RequirementSet.find(backend.name, kind, _sets(backend))


def _sets(backend: Backend) -> Path:
    """The folder of a backend's requirement sets: `requirements` beside its file."""
    return source_file(backend).parent / "requirements"


def _no_set(backend: Backend, kind: str) -> str:
    kinds = RequirementSet.devices(backend.name, _sets(backend))
    existing = f"there is one for {' and '.join(title(k) for k in kinds)}" if kinds else "there is none"
    return f"needs a requirement set of {backend.name} for {title(kind)}; {existing}"
