"""The `autobackend` command: finds its commands, and turns every error into a sentence, a mend and an exit code."""

import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pkgutil import iter_modules
from typing import Any

import click

from calibration import errors
from selector.commands import ask, keep, run

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells do."""

CODES = errors.kinds()
EPILOG = "\b\nExit codes:\n" + "\n".join(
    [
        "   0  it did what was asked",
        "   1  something unexpected, such as a full disk",
        *(f"{kind.exit_code:4}  {kind.__name__}: {(kind.__doc__ or '').strip()}" for kind in CODES),
        f"{INTERRUPTED:4}  interrupted by Ctrl-C",
    ]
)


class Program(click.Group):
    """The command's outermost layer: every error becomes a sentence, a mend and an exit code.

    Its commands are the files in the folders of selector/commands: NAME.py holds the command NAME.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _modules().get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), cmd_name)
        return command

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
        except SystemExit as ended:
            # click itself ends with code 1 where that reader has left before the last line was written.
            sys.exit(0 if ended.code == 1 and _nobody_reads_stdout() else ended.code)
        except Exception as error:  # noqa: BLE001  no user ever reads a traceback that he did not ask for
            if os.environ.get("AUTOBACKEND_TRACEBACK"):
                traceback.print_exc()
            _fail(f"{type(error).__name__}: {error}", "AUTOBACKEND_TRACEBACK=1 shows where it happened")
            sys.exit(1)


def _modules() -> dict[str, str]:
    """The name of each command, and of the module that holds it."""
    return {
        file.name: f"{folder.__name__}.{file.name}"
        for folder in (ask, keep, run)
        for file in iter_modules(folder.__path__)
    }


def _nobody_reads_stdout() -> bool:
    """Whether stdout is a pipe whose reader has closed it."""
    waiting = select.poll()
    waiting.register(1, 0)
    return any(event & select.POLLERR for _, event in waiting.poll(0))


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

    MODEL is a Hugging Face folder, a hub id, a .gguf file, or shape:NAME (see `autobackend shapes`).
    """
