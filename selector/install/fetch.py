"""Fetches what an engine's own source distribution alone has, for an interpreter that runs the engine already."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibration.backend import Backend
from calibration.environments.distributions import beside_folder, normalise
from calibration.environments.fetch import fetch as fetch_files
from calibration.environments.packages import beside, installed
from calibration.environments.pip import PipFailed
from calibration.errors import InstallError, UsageError
from selector.host.spec import HostSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The files are there, for the version of the engine that is installed."""

    name: str
    version: str
    folder: Path
    seconds: float | None
    """None: they were there."""


def fetch(backend: Backend, say: Callable[[str], None], *, python: Path | None = None) -> Fetched:
    """Fetch the files, unless they are there in the version of the engine.

    Args:
        say: is told what is being done, as a sentence.
        python: the interpreter beside which they are kept; None: the one that runs the backend.

    Raises:
        UsageError: the backend needs no such files.
        BackendError: there is no such interpreter.
        InstallError: the engine is not installed there, its version is not known here, or the files cannot be had;
            with the reason.
    """
    files = backend.facts.source_files
    if files is None:
        raise UsageError(f"{backend.name} needs nothing beside its packages", "see: autobackend backends")
    host = HostSpec.detect()
    interpreter = python or host.installations[backend.name].python
    package = backend.facts.on(host.device.kind).package
    versions = installed(interpreter)
    if normalise(package) not in versions:
        raise InstallError(f"needs {package} in {interpreter}; it is not installed", backend.facts.install)
    version, folder = versions[normalise(package)].partition("+")[0], beside_folder(interpreter, files.name)
    if beside(interpreter, files.name) == version:
        return Fetched(name=files.name, version=version, folder=folder, seconds=None)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="autobackend-") as scratch:
        log_file = Path(scratch) / "log"
        try:
            with log_file.open("w", encoding="utf-8") as log:
                fetch_files(
                    interpreter,
                    files,
                    package,
                    version,
                    temporary=Path(scratch),
                    log=log,
                    say=lambda what, now="": say(f"{what}: {now}" if now else what),
                )
        except PipFailed as failed:
            raise InstallError(f"{files.name} {version} could not be fetched: {failed.reason}") from failed
        except OSError as error:
            raise InstallError(f"{folder} cannot be written: {error.strerror or error}") from error
    return Fetched(name=files.name, version=version, folder=folder, seconds=time.monotonic() - began)
