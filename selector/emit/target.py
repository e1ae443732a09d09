"""Target: a program whose own configuration can be written for what was chosen."""

from collections.abc import Callable
from dataclasses import dataclass

from selector.answer import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """A configuration, as the program reads it."""

    text: str
    notes: tuple[str, ...] = ()
    """Sentences on what its user must still do or know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A program, and how its configuration is written."""

    name: str
    """As --emit takes it."""
    program: str
    """Its name in a sentence."""
    what: str
    """What is written, as a phrase: `arguments of llama-server`."""
    backends: tuple[str, ...] = ()
    """Those that it can run; empty: all, since it starts `autobackend serve`."""
    write: Callable[[Selection], Emitted]
    """Raises AutobackendError where there is nothing to be written for this model."""
