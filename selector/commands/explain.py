"""`autobackend explain`: which backends run a model here, and why the others do not."""

import click

from selector.commands._options import demand_options, examples, json_option, model_argument
from selector.commands._terminal import across, show, show_json
from selector.demand import Demand


@click.command(
    epilog=examples(
        "autobackend explain ./Qwen3-30B-A3B-AWQ",
        "autobackend explain Qwen/Qwen2.5-7B-Instruct --workload pp8192:tg512:b4 --json",
    )
)
@model_argument
@demand_options
@json_option
def explain(model: str, demand: Demand, as_json: bool) -> None:
    """Say for every backend and variant whether it runs MODEL here, or every reason why not."""
    from selector.explanation import explain as explained
    from selector.screens.select import explained as screen

    explanation = explained(model, demand)
    if as_json:
        show_json(explanation.to_json())
    else:
        show(screen(explanation, across=across()))
