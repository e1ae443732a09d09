"""All backends: one for each file of backends/, and those of the entry point group `autobackend.backends`."""

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

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
    found = [_in_module(f"{backends.__name__}.{m.name}") for m in pkgutil.iter_modules(backends.__path__)]
    for entry in entry_points(group=GROUP):
        try:
            loaded = entry.load()
        except Exception as error:
            raise BackendError(f"entry point {entry.name} = {entry.value} of group {GROUP} cannot be loaded: {error}") from error
        found.append(loaded())
    return {b.name: b for b in sorted(found, key=lambda b: (b.facts.order, b.name))}


def find(name: str) -> Backend:
    """Raises UsageError for an unknown name."""
    known = all_backends()
    if name not in known:
        raise UsageError(f"unknown backend {name!r}", f"known are: {', '.join(known)}")
    return known[name]


def _in_module(name: str) -> Backend:
    module = importlib.import_module(name)
    for thing in vars(module).values():
        if isinstance(thing, type) and issubclass(thing, Backend) and thing.__module__ == name:
            return thing()
    raise BackendError(f"{name} holds no Backend")
