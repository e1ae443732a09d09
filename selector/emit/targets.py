"""The programs that `select --emit` writes for: the modules of programs/, each with its TARGET."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from selector.emit import programs

if TYPE_CHECKING:
    from selector.emit.target import Target


def target_names() -> tuple[str, ...]:
    """As --emit takes them; no module of theirs is imported."""
    return tuple(module.name.replace("_", "-") for module in iter_modules(programs.__path__))


def find_target(name: str) -> "Target":
    """The target of one of these names."""
    target: Target = import_module(f"{programs.__name__}.{name.replace('-', '_')}").TARGET
    return target
