"""Lets a backend run in an interpreter that exists already."""

import os
from pathlib import Path

from calibration.backend import Backend
from calibration.environments.build import LEAST_PYTHON
from calibration.environments.config_file import name_interpreter, named_interpreters
from calibration.environments.distributions import normalise, requirement_name
from calibration.environments.lifeline import Guarded
from calibration.errors import BackendError
from selector.host.spec import HostSpec, Installation
from selector.rules.install import lacking, what_is


def use(backend: Backend, python: Path) -> Path:
    """Name an existing interpreter for a backend in the config file.

    Args:
        python: the interpreter, or the folder of a virtual environment.

    Returns:
        The interpreter.

    Raises:
        BackendError: it does not run, is too old, or lacks what the backend needs.
    """
    interpreter = Path(os.path.abspath(python.expanduser()))  # noqa: PTH100  links are kept: a venv's python is one
    if interpreter.is_dir():
        interpreter = interpreter / "bin" / "python"
    _check_version(interpreter)
    facts = backend.facts.on(HostSpec.detect(backends={}).device.kind)
    installation = Installation.detect(interpreter)
    named = {requirement_name(requirement) for requirement in facts.requires}
    package = () if normalise(facts.package) in named else (facts.package,)
    missing = lacking((*package, *facts.requires), installation)
    if missing:
        quoted = " ".join(f'"{requirement}"' for requirement in missing)
        raise BackendError(
            f"{backend.name} needs {', '.join(missing)} in {interpreter}; {what_is(missing, installation)}",
            f"{interpreter} -m pip install {quoted}",
        )
    name_interpreter(backend.name, interpreter)
    return interpreter


def use_default(backend: Backend) -> Path | None:
    """Let a backend run in our own interpreter again.

    Returns:
        The interpreter that the config file named before; None where it named none.
    """
    named = named_interpreters().get(backend.name)
    name_interpreter(backend.name, None)
    return named


def _check_version(python: Path) -> None:
    """Raises BackendError where an interpreter does not exist, does not run, or is too old."""
    if not python.is_file():
        raise BackendError(f"interpreter {python} does not exist", "name one: --python /path/to/venv/bin/python")
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    with Guarded([str(python), "-c", code], variables=dict(os.environ)) as running:
        lines = list(running.lines())
        status = running.wait()
    version = lines[-1] if lines else ""
    if status or not version.replace(".", "", 1).isdigit():
        raise BackendError(f"{python} does not run: {version or f'exit code {status}'}")
    if tuple(map(int, version.split("."))) < LEAST_PYTHON:
        raise BackendError(f"needs Python >= {'.'.join(map(str, LEAST_PYTHON))}; {python} is {version}")
