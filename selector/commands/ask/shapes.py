"""`autobackend shapes`: the public model shapes that come with autobackend."""

import click

from selector.commands.options import json_option
from selector.commands.terminal import show, show_json


@click.command()
@json_option
def shapes(as_json: bool) -> None:
    """List the public model shapes that come with autobackend, for shape:NAME."""
    from selector.model.files.shape_library import shape_names
    from selector.model.spec import ModelSpec
    from selector.screens.host import shapes_screen

    specs = sorted((ModelSpec.read(f"shape:{name}") for name in shape_names()), key=lambda spec: spec.parameters)
    if as_json:
        show_json([spec.to_json() for spec in specs])
    else:
        show(shapes_screen(specs))
