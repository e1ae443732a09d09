"""`autobackend host`: this machine, as far as it matters to the choice."""

import click

from selector.commands._options import json_option
from selector.commands._terminal import show, show_json


@click.command()
@json_option
def host(as_json: bool) -> None:
    """Show this machine: devices, CPU, cores, memory."""
    from selector.host.spec import HostSpec
    from selector.screens.host import host_screen

    here = HostSpec.detect()
    if as_json:
        show_json(here.to_json())
    else:
        show(host_screen(here))
