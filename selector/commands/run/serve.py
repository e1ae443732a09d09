"""`autobackend serve`: the fastest backend for a model, as a server with an API like OpenAI's."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from selector.commands.options import SECONDS, cache_option, demand_options, examples, json_option, model_argument
from selector.commands.serving import How, choose_server, serve_selection
from selector.demand.demand import Demand


@click.command(
    epilog=examples(
        "autobackend serve ./Qwen2.5-7B-Instruct",
        "autobackend serve ./model.gguf --workload pp512:tg128:b8 --port 0",
        "autobackend serve ./model --backend openvino:int8-pa --allow-lossy",
        "autobackend serve ./model --calibrate 600",
        "autobackend serve ./model --adapt",
        "AUTOBACKEND_API_KEY=secret autobackend serve ./model --host 0.0.0.0",
    )
)
@model_argument
@demand_options
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; others than this machine's own need a key.",
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0: a free one.",
)
@click.option(
    "--api-key",
    "keys",
    metavar="KEY",
    multiple=True,
    envvar="AUTOBACKEND_API_KEY",
    help="A key that requests must know; several times: any of them. Default: AUTOBACKEND_API_KEY.",
)
@click.option(
    "--served-model-name",
    "names",
    metavar="NAME",
    multiple=True,
    help="What requests call the model; several times: any of them. Default: MODEL, of a path its last part.",
)
@click.option(
    "--slots",
    metavar="N",
    type=click.IntRange(1),
    help="Requests at once; others wait. Default: the workload's, or 4 as far as memory allows.",
)
@click.option(
    "--context",
    "context_tokens",
    metavar="N",
    type=click.IntRange(2),
    help="Tokens of a prompt and its answer at most. Default: up to 8192, as far as the model and memory allow.",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1),
    help="Of the engine. Default: as it did best under the load, else one for each core.",
)
@click.option(
    "--drain",
    "drain_s",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="When it is told to stop, running requests may take so long.",
)
@click.option(
    "--hung-after",
    "hung_after_s",
    metavar="SECONDS",
    type=SECONDS,
    help="An engine that gives nothing for so long while requests run is ended and started again. Default: 300, or more"
    " where their prompts may take longer.",
)
@click.option(
    "--calibrate",
    "calibrate_s",
    metavar="SECONDS",
    type=SECONDS,
    help="Measure first, at most so long, which candidate is the fastest.",
)
@click.option("--adapt", is_flag=True, help="Switch to another candidate where it is surely better for what comes.")
@click.option(
    "--adapt-every",
    "adapt_every_s",
    metavar="SECONDS",
    type=SECONDS,
    default=300.0,
    show_default=True,
    help="How often --adapt looks.",
)
@click.option("--no-observe", is_flag=True, help="Do not count what comes for `autobackend select --observed`.")
@click.option("--to-measure", is_flag=True, hidden=True, help="A calibration starts it, and checks what it answers.")
@click.option("--log-requests", is_flag=True, help="A line for each request on stderr, without what it says.")
@cache_option
@json_option
def serve(
    model: str,
    demand: Demand,
    cache: str | None,
    host: str,
    port: int,
    keys: tuple[str, ...],
    calibrate_s: float | None,
    to_measure: bool,
    as_json: bool,
    **how: Any,
) -> int:
    """Serve MODEL with its fastest backend here, by an API like OpenAI's: /v1/chat/completions, /v1/completions.

    What was never measured here is served at once by what is predicted; --calibrate measures first. It prints its URL
    when it is ready. Ctrl-C or SIGTERM stops it when the requests that run have ended; a second one at once.
    """
    # numpy's threads are for larger matrices than a prediction's; on a busy machine they only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from selector.serve.api.listen import Address, listen

    address, how_to_serve = Address(host=host, port=port, keys=keys), How(as_json=as_json, **how)
    with (
        _ended_by_sigterm(),
        closing(listen(address)) as listening,
        TemporaryDirectory(prefix="autobackend-serve-") as folder,
    ):
        selection, location = choose_server(model, demand, cache, calibrate_s, listening, to_serve=not to_measure)
        return serve_selection(selection, address, listening, Path(folder), location, how_to_serve)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """As by Ctrl-C: what is begun is taken back. Once requests are answered, they end first; see run.py."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
