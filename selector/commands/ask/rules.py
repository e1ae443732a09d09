"""`autobackend rules`: what must hold for a backend to be a candidate."""

import click

from selector.commands.options import json_option
from selector.commands.terminal import across, show, show_json


@click.command()
@json_option
def rules(as_json: bool) -> None:
    """Print the rules: what must hold for a backend to be a candidate."""
    from selector.rules.table import RULES
    from selector.screens.text import columns

    if as_json:
        show_json([rule.to_json() for rule in RULES])
    else:
        show(columns([(rule.name, rule.sentence) for rule in RULES], across=across()))
