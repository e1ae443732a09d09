"""`autobackend publish`: the measurements as files for others to read."""

from pathlib import Path

import click

from selector.commands._options import cache_option, examples
from selector.commands._terminal import open_cache


@click.command(epilog=examples("autobackend publish --out results"))
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default="results",
    show_default=True,
    help="Where to.",
)
@cache_option
def publish(out: Path, cache: str | None) -> None:
    """Write this host's raw FOLDER/hosts/HOST.json, and the pages of all hosts in FOLDER.

    matrix.html shows everything, matrix.md is a summary, hosts/HOST.md is the page of each host.
    """
    from selector.publish.publish import publish as write

    with open_cache(cache) as opened:
        for path in write(opened, out):
            click.echo(path)
