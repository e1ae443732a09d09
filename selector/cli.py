"""The `autobackend` command; the only file that prints or exits. stdout is the answer, stderr everything else."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration import errors
from selector.commands.artifacts import artifacts
from selector.commands.backends import backends
from selector.commands.cache import cache as cache_group
from selector.commands.terminal import (
    across,
    cache_option,
    demand_options,
    examples,
    json_option,
    model_argument,
    note,
    open_cache,
    show,
    show_json,
    warn,
)
from selector.demand import Demand

if TYPE_CHECKING:
    from calibration.cache.cache import Cache
    from selector.planning.calibrate import Calibration

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells do."""

CODES = sorted(errors.AutobackendError.__subclasses__(), key=lambda kind: kind.exit_code)
EPILOG = "\b\nExit codes:\n" + "\n".join(
    [
        "   0  it did what was asked",
        "   1  something unexpected, such as a full disk",
        *(f"{kind.exit_code:4}  {kind.__name__}: {(kind.__doc__ or '').strip()}" for kind in CODES),
        f"{INTERRUPTED:4}  interrupted by Ctrl-C",
    ]
)


class Program(click.Group):
    """The command's outermost layer: every error becomes a sentence, a mend and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit as documented in EPILOG."""
        run: Callable[[], Any] = partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        try:
            code = run()
            sys.stdout.flush()  # a closed pipe shows here and not when the interpreter ends
            sys.exit(code if isinstance(code, int) else 0)
        except errors.AutobackendError as error:
            _fail(error.message, error.mend)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            usage = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "autobackend"
            _fail(error.format_message(), f"see {usage} --help")
            sys.exit(errors.UsageError.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted; what was measured is kept", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # The reader of stdout has what it wanted (`| head`); nothing more may be written, at exit neither.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except Exception as error:  # noqa: BLE001  no user ever reads a traceback that he did not ask for
            if os.environ.get("AUTOBACKEND_TRACEBACK"):
                traceback.print_exc()
            _fail(f"{type(error).__name__}: {error}", "AUTOBACKEND_TRACEBACK=1 shows where it happened")
            sys.exit(1)


def _fail(message: str, mend: str) -> None:
    click.echo(f"error: {message}", err=True)
    if mend:
        click.echo(mend, err=True)


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    try:
        click.echo(f"autobackend {version('autobackend')}")
    except PackageNotFoundError:
        click.echo("autobackend, not installed")
    context.exit()


@click.group(
    cls=Program, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
def main() -> None:
    """Which inference backend runs a model fastest on this machine, among those that run it at all and run it right.

    MODEL is a Hugging Face folder, a hub id, or shape:NAME (see `autobackend shapes`).
    """


@main.command(
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
@click.option("--again", is_flag=True, help="Measure anew what is in the cache.")
@cache_option
@json_option
def calibrate(model: str, demand: Demand, cache: str | None, as_json: bool, **how: Any) -> None:
    """Time every backend that can run MODEL here, each in a process of its own, and keep the samples.

    Stop it whenever you like: what was measured is kept, and the same command goes on from there.
    """
    from rich.console import Console

    from selector.planning import calibrate as planning
    from selector.screens.progress import Progress

    with open_cache(cache) as opened:
        with Progress(Console(stderr=True), random_weights=how["random_weights"]) as progress:
            done = planning.calibrate(model, demand, cache=opened, reporter=progress, **how)
        _show_calibration(model, done, opened, as_json)


def _show_calibration(model: str, done: "Calibration", cache: "Cache", as_json: bool) -> None:
    """The table and the sentences, or the JSON.

    Raises:
        NothingMeasured: there is nothing to show.
    """
    from calibration.measurement import Measurement, to_json
    from selector.screens import calibrate as screens
    from selector.selection import choose

    tally = done.tally
    if not any(isinstance(o, Measurement) for o in tally.outcomes):
        raise errors.NothingMeasured(
            screens.all_failed(tally), f"the logs' ends: autobackend cache show {model} --json"
        )
    answers = []
    for workload in done.plan.workloads:
        try:
            wanted = replace(done.plan.demand.for_one(workload), backends=())
            answers.append(choose(model, wanted, cache=cache, host=done.plan.host))
        except errors.NoLegalBackend:
            # One of several, longer than the model's positions: what was measured answers for the others.
            if workload is done.plan.workloads[-1] and not answers:
                raise
            warn(f"no backend is legal for {workload.label}: autobackend explain {model} --workload {workload.label}")
    if as_json:
        outcomes = [to_json(o) for o in tally.outcomes]
        told = {
            "calibration_id": tally.calibration_id,
            "ended": tally.ended,
            "seconds": tally.seconds,
            "check_s": tally.check_s,
            "check_share": tally.check_s / tally.seconds if tally.seconds else 0.0,
            "measured": len(tally.fresh),
            "reused": len(tally.outcomes) - len(tally.fresh),
            "out": dict(tally.out),
            "unmeasured": list(tally.unmeasured),
            "cache": done.cache,
            "selections": [answer.to_json() for answer in answers],
            "outcomes": outcomes,
        }
        show_json(told)
        return
    show(screens.table(done, [r.candidate.label for r in answers[0].ranking]))
    show(screens.failures(tally, across=across()))
    click.echo()
    show(screens.sentences(answers, done))
    note(f"kept in {done.cache}. Next: autobackend select {model}")


@main.command(
    epilog=examples(
        "autobackend select ./Qwen2.5-7B-Instruct-AWQ --why",
        "autobackend select shape:smollm2-135m --workload pp1024:tg64:b4 --objective ttft",
        "$(autobackend select ./model --command)",
    )
)
@model_argument
@demand_options
@click.option("--strict", is_flag=True, help="Fail where nothing was measured.")
@cache_option
@click.option("--why", is_flag=True, help="Show the ranking, what was refused and what failed.")
@click.option("--command", "as_command", is_flag=True, help="Print the command that serves the model instead.")
@json_option
def select(
    model: str, demand: Demand, strict: bool, cache: str | None, why: bool, as_command: bool, as_json: bool
) -> None:
    """Print the fastest backend for MODEL on this machine, as backend:variant."""
    from selector.screens.select import why as why_screen
    from selector.selection import choose

    with open_cache(cache) as opened:
        answer = choose(model, demand, cache=opened, strict=strict)
        if as_json:
            show_json(answer.to_json())
        elif as_command:
            click.echo(answer.command())
        elif why:
            show(why_screen(answer, across=across()))
        else:
            click.echo(answer.candidate.label)
        for sentence in answer.warnings:
            warn(sentence)
        for sentence in answer.notes:
            note(sentence)


@main.command(
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

    answer = explained(model, demand)
    if as_json:
        show_json(answer.to_json())
    else:
        show(screen(answer, across=across()))


@main.command()
@json_option
def host(as_json: bool) -> None:
    """Show this machine: devices, CPU, cores, memory."""
    from selector.host.spec import HostSpec
    from selector.screens.host import host_json, host_screen

    found = HostSpec.detect()
    if as_json:
        show_json(host_json(found))
    else:
        show(host_screen(found))


@main.command()
@json_option
def rules(as_json: bool) -> None:
    """Print the rules: what must hold for a backend to be a candidate."""
    from selector.screens.host import rules_json, rules_screen

    if as_json:
        show_json(rules_json())
    else:
        show(rules_screen(across()))


@main.command()
@json_option
def shapes(as_json: bool) -> None:
    """List the public model shapes that come with autobackend, for shape:NAME."""
    from selector.screens.host import shapes_json, shapes_screen

    found = shapes_json()
    if as_json:
        show_json(found)
    else:
        show(shapes_screen(found))


@main.command(epilog=examples("autobackend publish --out results"))
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default="results",
    show_default=True,
    help="Where to.",
)
@cache_option
def publish(out: Path, cache: str | None) -> None:
    """Write this host's raw FOLDER/hosts/HOST.json, and matrix.md and matrix.html of all hosts in FOLDER."""
    from selector.publish.publish import publish as write

    with open_cache(cache) as opened:
        for path in write(opened, out):
            click.echo(path)


main.add_command(cache_group)
main.add_command(artifacts)
main.add_command(backends)
