"""`autobackend explain`: which backends run a model here, and why the others do not."""

import click

from calibration.errors import UsageError
from selector.commands.options import demand_options, examples, host_option, json_option, model_argument
from selector.commands.terminal import across, show, show_json
from selector.demand.demand import Demand


@click.command(
    epilog=examples(
        "autobackend explain ./Qwen3-30B-A3B-AWQ",
        "autobackend explain Qwen/Qwen2.5-7B-Instruct --workload pp8192:tg512:b4 --json",
        "autobackend explain ./Qwen3-30B-A3B-AWQ --host host:rtx-4090",
        "autobackend explain ./Qwen3-30B-A3B-AWQ --all-hosts",
    )
)
@model_argument
@demand_options
@host_option
@click.option(
    "--all-hosts", is_flag=True, help="Say which machines of the library can run MODEL, and what the others lack."
)
@json_option
def explain(model: str, demand: Demand, machine: str | None, all_hosts: bool, as_json: bool) -> None:
    """Say for every backend and variant whether it runs MODEL here, or every reason why not."""
    if all_hosts:
        if machine is not None:
            raise UsageError(f"--all-hosts looks at every machine; found --host {machine} beside it", "leave one out")
        _survey(model, demand, as_json=as_json)
        return
    from selector.explanation import explain as explained
    from selector.screens.select import explained as screen

    host = None
    if machine is not None:
        from selector.machines.what_if import what_if

        host = what_if(machine)
    explanation = explained(model, demand, host=host)
    if as_json:
        show_json(explanation.to_json())
        return
    if host is not None:
        from selector.screens.what_if import what_if_lines

        show(what_if_lines(host, demand, across=across()))
    show(screen(explanation, across=across()))


def _survey(model: str, demand: Demand, *, as_json: bool) -> None:
    """Print a line for each machine of the library."""
    from selector.machines.survey import survey
    from selector.screens.what_if import survey_screen

    found = survey(model, demand)
    if as_json:
        show_json(found.to_json())
    else:
        show(survey_screen(found, across=across()))
