"""All backends: each file or folder of backends/, and those of the entry point group `autobackend.backends`."""

import contextlib
import importlib
import inspect
import os
import pkgutil
import sys
from functools import cache
from pathlib import Path

from calibration import backends
from calibration.backend import Backend
from calibration.errors import BackendError, UsageError

GROUP = "autobackend.backends"


@cache
def all_backends() -> dict[str, Backend]:
    """Every backend by name, in the static order.

    Raises:
        BackendError: a file or an entry point holds no backend.
    """
    known = [_in_module(f"{backends.__name__}.{m.name}") for m in pkgutil.iter_modules(backends.__path__)]
    if _any_announced():
        from importlib.metadata import entry_points

        for entry in entry_points(group=GROUP):
            try:
                backend_class = entry.load()
            except Exception as error:
                raise BackendError(
                    f"entry point {entry.name} = {entry.value} of group {GROUP} cannot be loaded: {error}",
                    f"uninstall or upgrade {entry.dist.name if entry.dist else entry.value}",
                ) from error
            known.append(backend_class())
    return {b.name: b for b in sorted(known, key=lambda b: (b.facts.order, b.name))}


def find(name: str) -> Backend:
    """Raises UsageError for an unknown name."""
    known = all_backends()
    if name not in known:
        raise UsageError(f"unknown backend {name!r}", f"known are: {', '.join(known)}")
    return known[name]


def source_file(backend: Backend) -> Path:
    """The file that defines a backend's class."""
    return Path(inspect.getfile(type(backend)))


def foreign_source(backend: Backend) -> str:
    """The file of a backend that comes with another package; empty for one of ours."""
    return "" if type(backend).__module__.startswith(f"{backends.__name__}.") else str(source_file(backend))


def _in_module(name: str) -> Backend:
    module = importlib.import_module(name)
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Backend) and f"{value.__module__}.".startswith(f"{name}."):
            return value()
    raise BackendError(f"{name} holds no Backend")


def _any_announced() -> bool:
    """Whether some distribution has our entry point group. Asking importlib.metadata takes 25 ms, this a few."""
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder or "."):  # noqa: PTH208  names are all that is needed
                if name.endswith((".dist-info", ".egg-info")):
                    with contextlib.suppress(OSError):
                        if GROUP in Path(folder, name, "entry_points.txt").read_text(
                            encoding="utf-8", errors="replace"
                        ):
                            return True
    return False
