"""`autobackend fleet`: one calibration for many hosts, over a Ray cluster."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
from selector.commands.terminal import across, note, open_cache, show, show_json
from selector.demand.demand import Demand

if TYPE_CHECKING:
    from selector.fleet.cluster import Cluster
    from selector.fleet.survey import Survey

ray_option = click.option(
    "--ray", "address", metavar="ADDRESS", default="auto", show_default=True,
    help="Of the cluster: head:6379, ray://head:10001, or auto: the one that this machine is part of.",
)  # fmt: skip


class _Compared(click.ParamType[int | None]):
    """A number of models, or `all`."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "all":
            return None
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"needs a number of models or all; found {value!r}", param, ctx)
        return number


@click.group(
    epilog=examples(
        "autobackend fleet hosts --ray head:6379",
        "autobackend fleet install llamacpp openvino --ray head:6379",
        "autobackend fleet calibrate shape:llama-3.1-8b Qwen/Qwen3-8B --ray head:6379 --cache postgresql://db/autobackend",
    )
)
def fleet() -> None:
    """Calibrate many hosts as one: each model on one host of a kind, and the others compared with it."""


@fleet.command(epilog=examples("autobackend fleet hosts --ray head:6379"))
@ray_option
@json_option
def hosts(address: str, as_json: bool) -> None:
    """Say what machine each node is, which are alike, and which backends they lack."""
    from selector.screens.fleet import hosts_screen

    with _stdout_alone(), _surveyed(address, {}) as (_, surveyed):
        pass
    if as_json:
        show_json(surveyed.to_json())
    else:
        show(hosts_screen(surveyed, across()))


@fleet.command(
    epilog=examples(
        "autobackend fleet calibrate shape:smollm2-135m --ray head:6379 --cache postgresql://db/autobackend",
        "autobackend fleet calibrate MODEL --ray auto --cache /shared/cache.db --budget 900 --verify all",
    )
)
@click.argument("models", nargs=-1, required=True)
@ray_option
@demand_options
@click.option(
    "--verify",
    metavar="N|all",
    type=_Compared(),
    default="8",
    show_default=True,
    help="On how many models each host is compared with those that are like it.",
)
@rounds_option
@sure_option
@click.option("--budget", "budget_s", metavar="SECONDS", type=SECONDS, help="Of each calibration.")
@no_probe_option
@cache_option
@json_option
def calibrate(
    models: tuple[str, ...],
    address: str,
    demand: Demand,
    verify: int | None,
    cache: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Calibrate MODELS on one host of each kind, and compare the other hosts with it.

    The shared cache must be reached by all nodes: a PostgreSQL database, or a file on a disk that they share. A host
    whose times are those of its kind, as far as the noise of launches lets one see, inherits its results; one that is
    not like the others is named, with the ratio, and calibrated for itself.

    Stop it whenever you like: what was measured is kept, and the same command goes on from there.
    """
    from rich.console import Console

    from selector.fleet.drive import calibrate_fleet, refuse_loads
    from selector.screens.fleet import FleetProgress, result_screen

    refuse_loads(demand)
    where = _shared(cache)
    variables = {"AUTOBACKEND_CACHE": where}
    with (
        open_cache(where) as opened,
        _stdout_alone() as write,
        _surveyed(address, variables) as (cluster, surveyed),
        FleetProgress(Console(stderr=True), as_json=as_json, write=write) as progress,
    ):
        result = calibrate_fleet(
            models,
            demand,
            cluster,
            surveyed,
            opened,
            progress,
            variables=variables,
            words=_words(how),
            verify=verify,
        )
    if as_json:
        click.echo(json.dumps(result.to_json()))  # a line, as those before it
    else:
        show(result_screen(result, across()))
    result.require_answers()


@fleet.command(epilog=examples("autobackend fleet install llamacpp --ray head:6379"))
@click.argument("names", nargs=-1, required=True)
@ray_option
@json_option
def install(names: tuple[str, ...], address: str, as_json: bool) -> None:
    """Install backends on every node that lacks them: `autobackend backends install` there."""
    from calibration.registry import find
    from selector.fleet.install import install_fleet
    from selector.screens.fleet import installed_screen

    wanted = [find(name).name for name in dict.fromkeys(names)]
    with _stdout_alone(), _surveyed(address, {}) as (cluster, surveyed):
        came = install_fleet(wanted, cluster, surveyed)
    if as_json:
        show_json([one.to_json() for one in came])
    else:
        show(installed_screen(came))
    if failed := [one for one in came if one.error]:
        raise errors.InstallError(
            f"{len(failed)} of {len(came)} nodes lack a backend still", "see the reasons above, and do it there by hand"
        )


@contextmanager
def _stdout_alone() -> Iterator[Callable[[str], None]]:
    """Writes a line to stdout, which nobody else does meanwhile: what Ray prints there of its nodes goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as stdout:
            yield lambda line: print(line, file=stdout, flush=True)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _surveyed(address: str, variables: Mapping[str, str]) -> Iterator[tuple["Cluster", "Survey"]]:
    """The cluster and its nodes; their agents end with it."""
    from selector.fleet.cluster import joined
    from selector.fleet.survey import survey

    with joined(address) as cluster:
        surveyed = survey(cluster, variables, version("autobackend"))
        for name, why in surveyed.unusable.items():
            note(f"{name} takes no part: {why}")
        yield cluster, surveyed


def _shared(cache: str | None) -> str:
    """The shared cache as nodes find it: a URL, or a whole path."""
    where = cache or os.environ.get("AUTOBACKEND_CACHE", "")
    if not where:
        raise errors.UsageError(
            "a fleet needs a cache that all nodes reach; none was named",
            "--cache postgresql://USER@HOST/DATABASE, or --cache FILE on a disk that they share",
        )
    return where if "://" in where else str(Path(where).expanduser().absolute())


def _words(how: Mapping[str, Any]) -> list[str]:
    words = [(f"--{name.removesuffix('_s')}", value) for name, value in how.items() if name != "no_probe"]
    given = [text for option, value in words if value is not None for text in (option, f"{value:g}")]
    return [*given, "--no-probe"] if how["no_probe"] else given
