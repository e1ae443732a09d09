"""What all commands share: options, and how an answer gets to stdout and everything else to stderr."""

import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from calibration.workload import STANDARD

if TYPE_CHECKING:
    from calibration.cache.cache import Cache

F = TypeVar("F", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """An epilog for help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


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


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_argument = click.argument("model")
cache_option = click.option(
    "--cache", metavar="PATH|URL", help="The cache; default: AUTOBACKEND_CACHE, then the user's."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
lossy = click.option("--allow-lossy", is_flag=True, help="Allow variants less precise than the model, such as int8.")
max_kl = click.option(
    "--max-kl",
    metavar="NATS",
    type=click.FloatRange(0, min_open=True),
    help="Allow those of them whose measured divergence is at most this.",
)
remote = click.option("--trust-remote-code", is_flag=True, help="Allow running the model's own code.")
devices = click.option(
    "--tensor-parallel",
    "tensor_parallel",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    help="Use N devices at once.",
)
WORKLOAD_HELP = f"A label like pp512:tg128:b1 (prompt tokens, new tokens, batch), or {', '.join(STANDARD)}."
workload_option = click.option("--workload", metavar="LABEL", help=f"{WORKLOAD_HELP} Default: chat.")
demand_options = options(lossy, max_kl, remote, devices)
