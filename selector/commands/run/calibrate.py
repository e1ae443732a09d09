"""`autobackend calibrate`: time every backend that can run a model here."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from calibration import errors
from selector.commands.options import (
    SECONDS,
    cache_option,
    demand_options,
    examples,
    json_option,
    no_probe_option,
    rounds_option,
    sure_option,
)
from selector.commands.terminal import across, note, open_cache, show, show_json, warn
from selector.demand.demand import Demand

if TYPE_CHECKING:
    from selector.planning.calibration import Calibration


@click.command(
    epilog=examples(
        "autobackend calibrate shape:smollm2-135m",
        "autobackend calibrate ./Qwen2.5-7B-Instruct-AWQ --workload pp2048:tg256:b8 --budget 1800",
        "autobackend calibrate ./model --backends ctranslate2,transformers:sdpa --allow-lossy",
        "autobackend calibrate ./model --trace requests.jsonl --trace-seconds 300",
        "autobackend calibrate --stale",
        "autobackend calibrate ./model --full",
    )
)
@click.argument("model", required=False)
@demand_options
@rounds_option
@sure_option
@click.option(
    "--full",
    is_flag=True,
    help="Race every candidate on the whole model, in rounds; under a load all of them take all rounds.",
)
@click.option(
    "--budget",
    "budget_s",
    metavar="SECONDS",
    type=SECONDS,
    help="Begin nothing that would end later.",
)
@click.option(
    "--random-weights", is_flag=True, help="Time the model's shape; nothing is downloaded. Implied by shape:NAME."
)
@no_probe_option
@click.option("--calibration", "calibration_id", metavar="ID", default="", hidden=True)  # of its part on one device
@click.option("--again", is_flag=True, help="Measure anew what is in the cache.")
@click.option(
    "--stale",
    is_flag=True,
    help="Measure what an upgrade made stale and could change an answer (see check), beside the pick of today;"
    " without MODEL, of all models.",
)
@cache_option
@json_option
@click.pass_context
def calibrate(
    ctx: click.Context,
    /,
    model: str | None,
    demand: Demand,
    no_probe: bool,
    cache: str | None,
    as_json: bool,
    stale: bool,
    **how: Any,
) -> None:
    """Time the backends that can run MODEL here until the answer is sure, each in a process of its own.

    Candidates climb a ladder: from what is predicted to a few layers of the model, and from there to the whole model.
    Who cannot win any more is not launched again; of a model that is too large, the answer stands on its few layers.

    For a load (pp512:tg128:c8, --trace FILE) they are started as servers, as `serve` starts them, and put under it in
    rounds.

    Stop it whenever you like: what was measured is kept, and the same command goes on from there.
    """
    if stale:
        ways = ("sure", "full", "random_weights", "no_probe", "again")
        given = [name for name in ways if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        _refuse_beside_stale(demand, given)
        _stale(model, demand, cache, as_json, how["rounds"], how["budget_s"])
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    from rich.console import Console

    from selector.planning import calibrate as planning
    from selector.screens.calibration.progress import Progress

    with open_cache(cache) as opened, Progress(Console(stderr=True), random_weights=how["random_weights"]) as progress:
        calibration = planning.calibrate(model, demand, cache=opened, reporter=progress, probe=not no_probe, **how)
    _require_an_answer(calibration, model)
    if as_json:
        show_json(calibration.to_json())
    else:
        _show(calibration, model)


def _refuse_beside_stale(demand: Demand, given: Sequence[str]) -> None:
    """Raise UsageError for what says what to measure, or how: what is stale is measured as it was.

    Args:
        given: names of options that the user typed.
    """
    words = replace(demand, trust_remote_code=False).options()
    words += [f"--{name.replace('_', '-')}" for name in given]
    if words:
        raise errors.UsageError(f"--stale measures again what was measured; found {shlex.join(words)}", "leave it out")


def _stale(
    model: str | None, demand: Demand, cache: str | None, as_json: bool, rounds: int, budget_s: float | None
) -> None:
    """Calibrate what `autobackend check` says could change an answer, batches first and then loads."""
    from rich.console import Console

    from selector.screens import check as screens
    from selector.screens.calibration.progress import Progress
    from selector.upkeep.outdated import stale_models
    from selector.upkeep.renew import calibrate_stale
    from selector.upkeep.served import stale_served

    models, calibrations = (model,) if model else (), list["Calibration"]()
    with open_cache(cache) as opened:
        found, under_load = stale_models(opened, models=models), stale_served(opened, models=models)
        lasting = [stale for stale in under_load if stale.mattering]
        for line in screens.gone(found, under_load):
            warn(line)
        if found or not lasting:
            note(screens.sentence(found))
        if lasting:
            note(screens.loads_sentence(lasting))
        for calibration in calibrate_stale(
            opened,
            reporter=lambda random_weights: Progress(Console(stderr=True), random_weights=random_weights),
            models=models,
            rounds=rounds,
            budget_s=budget_s,
            trust_remote_code=demand.trust_remote_code,
        ):
            calibrations.append(calibration)
            if not as_json and calibration.selections:
                _show(calibration, calibration.plan.spec.name)
    if as_json:
        show_json([calibration.to_json() for calibration in calibrations])
    for calibration in calibrations:
        _require_an_answer(calibration, calibration.plan.spec.name)


def _require_an_answer(calibration: "Calibration", model: str) -> None:
    """Raise NothingMeasured, or the reason why no workload has an answer; warn of those that have none."""
    from selector.screens.calibration import results as screens

    if not calibration.selections and not calibration.unanswered:
        raise errors.NothingMeasured(
            screens.all_failed(calibration.outcomes), f"the logs' ends: autobackend cache show {model} --json"
        )
    if not calibration.selections:
        raise calibration.unanswered[-1].reason
    for unanswered in calibration.unanswered:
        warn(f"no backend is legal for {unanswered.use.label}: {unanswered.reason.mend}")


def _show(calibration: "Calibration", model: str) -> None:
    from selector.screens.calibration import results as screens

    show(screens.table(calibration))
    show(screens.served_tables(calibration))
    show(screens.failures(calibration.outcomes, across=across()))
    show(screens.never_launched(calibration.tally, across=across()))
    click.echo()
    show(screens.sentences(calibration))
    note(f"kept in {calibration.cache}. Next: {calibration.selections[0].demand.command('select', model)}")
