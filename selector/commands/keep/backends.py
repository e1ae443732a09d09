"""`autobackend backends`: where each backend is installed, and environments of their own for them."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from calibration import errors
from selector.commands.options import examples, json_option
from selector.commands.terminal import across, note, show, show_json
from selector.host.kinds import KINDS

if TYPE_CHECKING:
    from rich.status import Status

    from selector.install.install import InstallEvent

python_type = click.Path(path_type=Path)


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "autobackend backends",
        "autobackend backends install llamacpp openvino",
        "autobackend backends install --all",
        "autobackend backends use turbomind --python /opt/lmdeploy/bin/python",
    ),
)
@json_option
@click.pass_context
def backends(context: click.Context, as_json: bool) -> None:
    """List the backends; give them environments of their own.

    Without a command: list.
    """
    if context.invoked_subcommand is None:
        _list(as_json)
    elif as_json:
        raise errors.UsageError(
            f"--json belongs behind {context.invoked_subcommand}",
            f"autobackend backends {context.invoked_subcommand} --json",
        )


@backends.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the backends: versions, devices, environments.

    Size and verification are those of environments that `install` made.
    """
    _list(as_json)


def _list(as_json: bool) -> None:
    from selector.host.spec import HostSpec
    from selector.install.inventory import inventory
    from selector.screens.backends import backends_screen

    listed = inventory(HostSpec.detect())
    if as_json:
        show_json([backend.to_json() for backend in listed])
    else:
        show(backends_screen(listed, across()))


@backends.command(
    epilog=examples(
        "autobackend backends install llamacpp",
        "autobackend backends install vllm --python /usr/bin/python3.12",
        "autobackend backends install --all",
    )
)
@click.argument("names", nargs=-1)
@click.option("--python", metavar="PATH", type=python_type, help="The interpreter to build from; default: this one.")
@click.option("--all", "every", is_flag=True, help="Every backend that this machine can run and that runs nowhere yet.")
@click.option("--device", type=click.Choice(list(KINDS)), help="What it is to run on; default: this host's device.")
@json_option
def install(names: tuple[str, ...], python: Path | None, every: bool, device: str | None, as_json: bool) -> None:
    """Make an environment for each backend named.

    It is made from a list of exact versions, tried together, and is there once a tiny model has generated tokens in it.
    What is interrupted or fails leaves nothing. Measurements and rules see the new environment from then on.
    """
    from calibration.registry import find
    from selector.install.install import install_all, install_named
    from selector.install.outcome import Failed
    from selector.screens.backends import outcome_screen

    if bool(names) == every:
        raise errors.UsageError("needs either names of backends or --all", "see autobackend backends install --help")
    chosen = [find(name) for name in dict.fromkeys(names)]
    with _Steps() as steps:
        if every:
            outcomes = install_all(steps, python=python, device=device)
        else:
            outcomes = install_named(chosen, steps, python=python, device=device)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if as_json:
        show_json([outcome.to_json() for outcome in outcomes])
    else:
        show(outcome_screen(outcome) for outcome in outcomes if not isinstance(outcome, Failed))
    if failed:
        lines = [f"{len(failed)} of {len(outcomes)} could not be installed", *map(outcome_screen, failed)]
        mends = dict.fromkeys(outcome.error.mend for outcome in failed if outcome.error.mend)
        raise errors.InstallError("\n  ".join(lines), "\n".join(mends))


@backends.command(epilog=examples("autobackend backends remove llamacpp"))
@click.argument("name")
def remove(name: str) -> None:
    """Delete the environment of a backend.

    An interpreter that `use` named is not touched, only no longer used.
    """
    from calibration.registry import find
    from selector.install import remove as removing
    from selector.screens.text import size

    match removing.remove(find(name)):
        case removing.Deleted(venv=venv):
            click.echo(f"removed {venv.folder}: {size(venv.bytes)}")
        case removing.Unnamed(python=python):
            click.echo(f"{name} no longer runs in {python}, which is not ours and stays as it is")


@backends.command(
    epilog=examples(
        "autobackend backends use turbomind --python /opt/lmdeploy/bin/python",
        "autobackend backends use turbomind --default",
    )
)
@click.argument("name")
@click.option("--python", metavar="PATH", type=python_type, help="An interpreter or a virtual environment's folder.")
@click.option("--default", is_flag=True, help="Go back to the interpreter of this program.")
def use(name: str, python: Path | None, default: bool) -> None:
    """Run a backend in an interpreter that is there."""
    from calibration.registry import find
    from selector.install import use as using

    backend = find(name)
    if python is not None and not default:
        click.echo(f"{name} runs in {using.use(backend, python)}")
    elif default and python is None:
        before = using.use_default(backend)
        click.echo(f"{name} runs in the interpreter of this program" + (f", no longer in {before}" if before else ""))
    else:
        raise errors.UsageError("needs either --python PATH or --default", "see autobackend backends use --help")


@backends.command(epilog=examples("autobackend backends fetch llamacpp"))
@click.argument("name")
@click.option("--python", metavar="PATH", type=python_type, help="The interpreter; default: the one that runs NAME.")
def fetch(name: str, python: Path | None) -> None:
    """Fetch what an engine's package lacks.

    llama.cpp's converter is in the source distribution of its package alone. This fetches that of the version which is
    installed, checks its hash, and keeps the converter's files beside the interpreter; nothing of it is run. `install`
    does the same.
    """
    from calibration.registry import find
    from selector.install import fetch as fetching
    from selector.screens.text import seconds

    fetched = fetching.fetch(find(name), note, python=python)
    done = "is there already" if fetched.seconds is None else f"was fetched in {seconds(fetched.seconds)}"
    click.echo(f"{fetched.name} {fetched.version} {done}: {fetched.folder}")


class _Steps:
    """Says on stderr how far an installation is: one living line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._said = ""

    def __enter__(self) -> Self:
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            self._status = console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def report(self, event: "InstallEvent", /) -> None:
        """Show it."""
        from selector.install.install import InstallPlanned, InstallStep, WaitingForInstall
        from selector.screens.backends import plan_screen

        match event:
            case InstallPlanned():
                click.echo("\n".join(plan_screen(event)), err=True)
            case WaitingForInstall(backend=backend):
                note(f"{backend} is being installed by another process; waiting for it")
            case InstallStep():
                self._step(f"{event.backend}: {event.what}", event.now)

    def _step(self, what: str, now: str) -> None:
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text("  ".join(part for part in (what, now) if part)))
        elif what != self._said:
            self._said = what
            click.echo(what, err=True)
