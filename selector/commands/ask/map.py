"""`autobackend map`: where over prompt, output and batch the best backend changes."""

from pathlib import Path

import click

from selector.commands.options import (
    cache_option,
    demand_options_but_workload,
    examples,
    json_option,
    model_argument,
)
from selector.commands.terminal import across, note, open_cache, show, show_json, warn
from selector.demand.demand import Demand
from selector.map.axes import BATCHES, OUTPUTS, PROMPTS, Axes


@click.command(
    "map",
    epilog=examples(
        "autobackend map shape:smollm2-135m --allow-lossy --svg map.svg",
        "autobackend map ./model --prompts 128:4096 --outputs 64,256 --batches 1,8 --objective throughput",
    ),
)
@model_argument
@demand_options_but_workload
@click.option(
    "--prompts",
    metavar="VALUES",
    default=PROMPTS,
    show_default=True,
    help="Prompt tokens: a range that is doubled through, or a list like 64,512,2048.",
)
@click.option("--outputs", metavar="VALUES", default=OUTPUTS, show_default=True, help="New tokens, likewise.")
@click.option("--batches", metavar="VALUES", default=BATCHES, show_default=True, help="Batches, likewise.")
@click.option("--svg", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Draw it there, too.")
@cache_option
@json_option
def draw(
    model: str,
    demand: Demand,
    prompts: str,
    outputs: str,
    batches: str,
    svg: Path | None,
    cache: str | None,
    as_json: bool,
) -> None:
    """Show which backend is best for MODEL at which prompt, output and batch, as far as this machine measured it.

    Each cell is the answer of `select` for its workload. Nothing is measured.
    """
    from selector.map.text import text
    from selector.map.winners import winners

    axes = Axes.parse(prompts, outputs, batches)
    with open_cache(cache) as opened:
        drawn = winners(model, axes, demand, cache=opened)
    if svg is not None:
        from selector.map.svg import write_svg

        write_svg(drawn, svg)
    if as_json:
        show_json(drawn.to_json())
    else:
        show(text(drawn, across=across()))
    for sentence in drawn.warnings():
        warn(sentence)
    for sentence in drawn.notes():
        note(sentence)


map = draw  # noqa: A001  the command's file and its name are one
