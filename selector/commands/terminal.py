"""How a command opens the cache, and how its answer gets to stdout and everything else to stderr."""

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from calibration.cache.cache import Cache


def note(sentence: str) -> None:
    """Say on stderr what is good to know."""
    click.echo(f"note: {sentence}", err=True)


def warn(sentence: str) -> None:
    """Say on stderr what the answer lacks."""
    click.echo(f"warning: {sentence}", err=True)


def show(lines: Iterable[str]) -> None:
    """Print lines to stdout."""
    for line in lines:
        click.echo(line)


def show_json(value: Any) -> None:
    """Print a JSON answer to stdout."""
    click.echo(json.dumps(value, indent=2))


def across() -> int | None:
    """Where lines are wrapped: at the terminal's width; never for a reader that is a program."""
    from selector.screens.text import width

    return width() if sys.stdout.isatty() else None


def open_cache(cache: str | None) -> "Cache":
    """The cache that --cache names; that a corrupt one was set aside is said on stderr."""
    from calibration.cache.cache import Cache

    return Cache.open(cache, notify=warn)
