"""`autobackend calibrate`: time every backend that can run a model here."""

from typing import Any

import click

from calibration import errors
from selector.commands._options import cache_option, demand_options, examples, json_option, model_argument
from selector.commands._terminal import across, note, open_cache, show, show_json, warn
from selector.demand import Demand


@click.command(
    epilog=examples(
        "autobackend calibrate shape:smollm2-135m",
        "autobackend calibrate ./Qwen2.5-7B-Instruct-AWQ --workload pp2048:tg256:b8 --budget 1800",
        "autobackend calibrate ./model --backends ctranslate2,transformers:sdpa --allow-lossy",
    )
)
@model_argument
@demand_options
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Launches of a candidate at most.",
)
@click.option(
    "--budget",
    "budget_s",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Begin nothing that would end later.",
)
@click.option(
    "--random-weights", is_flag=True, help="Time the model's shape; nothing is downloaded. Implied by shape:NAME."
)
@click.option(
    "--no-probe", is_flag=True, help="Do not measure first, once on a host, how fast it reads memory and multiplies."
)
@click.option("--again", is_flag=True, help="Measure anew what is in the cache.")
@cache_option
@json_option
def calibrate(model: str, demand: Demand, no_probe: bool, cache: str | None, as_json: bool, **how: Any) -> None:
    """Time every backend that can run MODEL here, each in a process of its own, and keep the samples.

    Stop it whenever you like: what was measured is kept, and the same command goes on from there.
    """
    from rich.console import Console

    from selector.planning import calibrate as planning
    from selector.screens import calibrate as screens
    from selector.screens.progress import Progress

    with open_cache(cache) as opened, Progress(Console(stderr=True), random_weights=how["random_weights"]) as progress:
        calibration = planning.calibrate(model, demand, cache=opened, reporter=progress, probe=not no_probe, **how)
    if not calibration.selections and not calibration.unanswered:
        raise errors.NothingMeasured(
            screens.all_failed(calibration.tally), f"the logs' ends: autobackend cache show {model} --json"
        )
    if not calibration.selections:
        raise calibration.unanswered[-1].reason
    for unanswered in calibration.unanswered:
        warn(f"no backend is legal for {unanswered.workload.label}: {unanswered.reason.mend}")
    if as_json:
        show_json(calibration.to_json())
        return
    show(screens.table(calibration))
    show(screens.failures(calibration.tally, across=across()))
    click.echo()
    show(screens.sentences(calibration))
    note(f"kept in {calibration.cache}. Next: {calibration.selections[0].demand.command('select', model)}")
