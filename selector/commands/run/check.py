"""`autobackend check`: which measurements an upgrade made stale, and whether that could change an answer."""

import click

from calibration import errors
from selector.commands.options import cache_option, examples, json_option
from selector.commands.terminal import across, note, open_cache, show, show_json, warn


@click.command(
    epilog=examples(
        "autobackend check",
        "autobackend check shape:smollm2-135m --json",
        "autobackend check || autobackend calibrate --stale",
    )
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@cache_option
@json_option
def check(models: tuple[str, ...], cache: str | None, as_json: bool) -> None:
    """Say which measurements of this host an upgrade made stale, and fail where that could change an answer.

    Without MODEL all models in the cache are looked at. A candidate could change an answer where it was the pick, or
    may be as fast as the pick by its times of then. What was measured under load is told apart. Nothing is measured.
    """
    from selector.screens import check as screens
    from selector.upkeep.outdated import stale_models
    from selector.upkeep.served import stale_served

    with open_cache(cache) as opened:
        found = stale_models(opened, models=models)
        under_load = stale_served(opened, models=models)
    mattering = [stale for stale in found if stale.mattering]
    if as_json:
        show_json({
            "stale": sum(len(stale.candidates) for stale in found),
            "could_change": sum(len(stale.mattering) for stale in mattering),
            "seconds": sum(stale.seconds for stale in mattering),
            "models": [stale.to_json() for stale in found],
            "served": [stale.to_json() for stale in under_load],
        })  # fmt: skip
    else:
        show(screens.table(found, across()))
        show(screens.loads(under_load))
    for line in screens.gone(found, under_load):
        warn(line)
    if mattering:
        raise errors.Outdated(
            screens.sentence(found), " ".join(["measure them: autobackend calibrate --stale", *models[:1]])
        )
    if lasting := [stale for stale in under_load if stale.mattering]:
        again = " ".join(["autobackend calibrate --stale", *models[:1]])
        command = again if any(stale.kept for stale in lasting) else lasting[0].command
        raise errors.Outdated(screens.loads_sentence(lasting), f"measure them: {command}")
    note(screens.sentence(found))
