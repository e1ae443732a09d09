"""`autobackend select`: the fastest backend for a model on this machine."""

import os
from typing import TYPE_CHECKING

import click

from calibration.errors import UsageError
from selector.commands.options import (
    cache_option,
    demand_options,
    examples,
    host_option,
    json_option,
    model_argument,
)
from selector.commands.terminal import across, note, open_cache, show, show_json, warn
from selector.demand.demand import Demand
from selector.emit.targets import find_target, target_names

if TYPE_CHECKING:
    from calibration.cache.cache import Cache
    from selector.answer import Selection
    from selector.demand.traffic import Observed
    from selector.host.spec import HostSpec


@click.command(
    epilog=examples(
        "autobackend select ./Qwen2.5-7B-Instruct-AWQ --why",
        "autobackend select shape:smollm2-135m --workload pp1024:tg64:b4 --objective ttft",
        "$(autobackend select ./model --command)",
        "autobackend select ./model --emit compose > compose.yaml",
        "autobackend select ./model --host host:h100-sxm-80gb --why",
    )
)
@model_argument
@demand_options
@host_option
@click.option("--strict", is_flag=True, help="Fail where nothing was measured.")
@click.option(
    "--observed", is_flag=True, help="For what `autobackend serve` answered: median lengths, mean number at once."
)
@cache_option
@click.option("--why", is_flag=True, help="Show the ranking, what was refused and what failed.")
@click.option("--command", "as_command", is_flag=True, help="Print the command that serves the model instead.")
@click.option(
    "--emit",
    metavar="PROGRAM",
    type=click.Choice(target_names()),
    help=f"Print another program's configuration for the best choice that it can run: {', '.join(target_names())}.",
)
@json_option
def select(
    model: str,
    demand: Demand,
    machine: str | None,
    strict: bool,
    observed: bool,
    cache: str | None,
    why: bool,
    as_command: bool,
    emit: str | None,
    as_json: bool,
) -> None:
    """Print the fastest backend for MODEL on this machine, as backend:variant."""
    if emit and (why or as_command or as_json):
        raise UsageError("--emit prints one thing; found --why, --command or --json beside it", "leave one out")
    if machine is not None and (as_command or emit or observed):
        raise UsageError(
            f"--command, --emit and --observed are for this machine; found --host {machine} beside one of them",
            "leave one out",
        )
    # numpy's threads are for larger matrices than a prediction's; on a busy machine they only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from selector.predict.limits.probe import probe_of
    from selector.screens.select import why as why_screen
    from selector.selection import choose

    with open_cache(cache) as opened:
        came = _came(model, demand, opened.location) if observed else None
        demand = demand.for_one(came.load) if came else demand
        if emit:
            _emit(emit, model, demand, strict, opened)
            return
        selection = choose(model, demand, cache=opened, host=_machine(machine), strict=strict)
        probe = probe_of(selection.host.identifier, opened) if why else None
        promising, inherited = selection.promising(), selection.inherited()
    if as_json:
        show_json(selection.to_json())
    elif as_command:
        click.echo(selection.command())
    elif why:
        show(_assumed(selection, across=across()))
        show(why_screen(selection, across=across(), probe=probe))
    else:
        click.echo(selection.candidate.label)
    if inherited and inherited.likeness.models and not why:
        note(inherited.sentence)
    _say(selection, came, promising, assumed=not why)


def _say(selection: "Selection", came: "Observed | None", promising: str | None, *, assumed: bool) -> None:
    """Say on stderr what the answer lacks and what is good to know of it."""
    if selection.host.what_if is not None and assumed:
        note(f"assumed of {selection.host.place}: {'; '.join(selection.host.what_if.assumptions)}")
    if came:
        from selector.screens.serve import observed as observed_screen

        for sentence in observed_screen(selection, came):
            note(sentence)
    for sentence in selection.warnings:
        warn(sentence)
    for sentence in selection.notes:
        note(sentence)
    if promising:
        note(promising)


def _machine(named: str | None) -> "HostSpec | None":
    """A machine that the user does not hold; None: this one."""
    if named is None:
        return None
    from selector.machines.what_if import what_if

    return what_if(named)


def _assumed(selection: "Selection", *, across: int | None) -> list[str]:
    """What the answer for a machine that the user does not hold takes for granted; nothing for this one."""
    if selection.host.what_if is None:
        return []
    from selector.screens.what_if import what_if_lines

    return what_if_lines(selection.host, selection.demand, across=across)


def _came(model: str, demand: Demand, cache: str) -> "Observed":
    """What a server of this model has answered here."""
    from selector.demand.traffic import kept, traffic_file

    if demand.workloads:
        labels = ", ".join(workload.label for workload in demand.workloads)
        raise UsageError(f"--observed answers for what came; found --workload {labels}", "leave one of them out")
    came = kept(traffic_file(cache), model)
    if came is None:
        raise UsageError(f"no server of {model} has answered anything here", f"start one: autobackend serve {model}")
    return came


def _emit(name: str, model: str, demand: Demand, strict: bool, cache: "Cache") -> None:
    """Print a program's configuration for the best choice that it can run, and on stderr what is to be said of it."""
    from selector.among import choose_among

    target = find_target(name)
    among = choose_among(model, demand, target.backends, program=target.program, cache=cache, strict=strict)
    emitted = target.write(among.selection)
    click.echo(emitted.text, nl=False)
    for sentence in filter(None, (*among.selection.warnings, among.warning)):
        warn(sentence)
    for sentence in filter(None, (among.sentence, *among.selection.notes, *emitted.notes)):
        note(sentence)
