"""`autobackend serve`: the fastest backend for a model, as a server with an API like OpenAI's."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from calibration.errors import CacheError
from selector.commands.options import cache_option, demand_options, examples, json_option, model_argument
from selector.commands.terminal import note, open_cache, warn
from selector.demand.demand import Demand

if TYPE_CHECKING:
    import socket

    from selector.answer import Selection
    from selector.demand.traffic import Observed
    from selector.serve.api.listen import Address
    from selector.serve.prepare import Prepared


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
    type=click.FloatRange(0, min_open=True),
    help="An engine that gives nothing for so long while requests run is ended and started again. Default: 300, or more"
    " where their prompts may take longer.",
)
@click.option(
    "--calibrate",
    "calibrate_s",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Measure first, at most so long, which candidate is the fastest.",
)
@click.option("--adapt", is_flag=True, help="Switch to another candidate where it is surely better for what comes.")
@click.option(
    "--adapt-every",
    "adapt_every_s",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
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

    address = Address(host=host, port=port, keys=keys)
    with (
        _ended_by_sigterm(),
        closing(listen(address)) as listening,
        TemporaryDirectory(prefix="autobackend-serve-") as folder,
    ):
        selection, location = _choose(model, demand, cache, calibrate_s, listening, to_serve=not to_measure)
        return _serve(selection, address, listening, Path(folder), location, _How(as_json=as_json, **how))


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """As by Ctrl-C: what is begun is taken back. Once requests are answered, they end first; see run.py."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """The options that are passed on."""

    names: tuple[str, ...]
    slots: int | None
    context_tokens: int | None
    threads: int | None
    drain_s: float
    hung_after_s: float | None
    log_requests: bool
    adapt: bool
    adapt_every_s: float
    no_observe: bool
    as_json: bool


def _choose(
    model: str,
    demand: Demand,
    cache: str | None,
    calibrate_s: float | None,
    listening: "socket.socket",
    *,
    to_serve: bool,
) -> "tuple[Selection, str]":
    """What will be served, and the address of the cache.

    Args:
        to_serve: False: what answered wrong as it was served may be started, to be checked again.
    """
    from rich.console import Console

    from calibration.workload import DEFAULT
    from selector.model.spec import ModelSpec
    from selector.planning import calibrate as planning
    from selector.planning.plan import within
    from selector.screens.progress import Progress
    from selector.selection import choose
    from selector.serve.api.listen import not_ready

    [usual] = within((DEFAULT,), ModelSpec.read(model).max_position)
    wanted = demand if demand.workloads or usual == DEFAULT else demand.for_one(usual)
    with open_cache(cache) as opened:
        if calibrate_s is not None:
            with not_ready(listening, "the model is being measured"), Progress(Console(stderr=True)) as progress:
                planning.calibrate(model, wanted, budget_s=calibrate_s, probe=True, cache=opened, reporter=progress)
        return choose(model, wanted, cache=opened, to_serve=to_serve), opened.address


def _serve(
    selection: "Selection", address: "Address", listening: "socket.socket", folder: Path, cache: str, how: _How
) -> int:
    from rich.console import Console

    from selector.planning.room import room_for
    from selector.screens import serve as screens
    from selector.screens.progress import Progress
    from selector.serve.api.listen import not_ready
    from selector.serve.prepare import prepare

    room = room_for(selection, slots=how.slots, context_tokens=how.context_tokens)
    _say(*screens.chosen(selection, room, threads=how.threads or selection.threads))
    for sentence in selection.warnings:
        warn(sentence)
    for sentence in selection.notes:
        note(sentence)
    if promising := selection.promising():
        note(promising)
    with (
        not_ready(listening, "the model is being made ready"),
        Progress(Console(stderr=True)) as progress,
    ):
        prepared = prepare(selection, room, folder=folder, reporter=progress, threads=how.threads or selection.threads)
    return _run(prepared, address, listening, folder, cache, how)


def _run(
    prepared: "Prepared", address: "Address", listening: "socket.socket", folder: Path, cache: str, how: _How
) -> int:
    """Serve until it is told to stop, and keep what came."""
    from calibration.supervision.device_lock import calibrated_by, serving_on
    from selector.demand.traffic import keep, traffic_file
    from selector.screens import serve as screens
    from selector.serve.adapt.here import Options
    from selector.serve.adapt.pace import Pace
    from selector.serve.adapt.words import looks
    from selector.serve.api.listen import url_of
    from selector.serve.assemble import assemble
    from selector.serve.keep.log_limit import kept_short
    from selector.serve.run import Service, run

    model, label, title = prepared.selection.model, prepared.spec.label, prepared.backend.facts.title
    names = how.names or (_name(model),)
    log_requests = _say if how.log_requests else None
    log = folder / "engine.log"
    assembled = assemble(
        prepared,
        names=names,
        keys=address.keys,
        log=log,
        log_requests=log_requests,
        hung_after_s=how.hung_after_s,
    )
    behind, url = assembled.behind, url_of(listening)

    def tell_restart(again: str, load_s: float) -> None:
        assembled.metrics.restarts.inc()
        _say(f"{again} serves again after {load_s:.1f} s")

    has_told = False

    def tell_ready(load_s: float) -> None:
        nonlocal has_told
        if has_told:
            tell_restart(label, load_s)
            return
        has_told = True
        answer = prepared.to_json(url=url, names=names, batching=behind.batching(), load_s=load_s)
        texts = {"takes_text": behind.takes_text, "takes_chats": behind.takes_chats}
        _say(*screens.ready(answer, title, **texts, keyed=bool(address.keys)))
        if adapter:
            _say(looks(adapter.pace))
        if how.as_json:
            click.echo(json.dumps(answer))
        else:
            click.echo(url)

    def keep_traffic(came: "Observed") -> None:
        if how.no_observe:
            return
        try:
            keep(traffic_file(cache), model, came)
        except CacheError as error:
            warn(error.message)

    adapter = None
    if how.adapt:
        options = Options(cache=cache, slots=how.slots, threads=how.threads)
        pace = Pace(every_s=how.adapt_every_s)
        adapter = assembled.adapter(prepared, options, pace, say=_say, on_restart=tell_restart)
    _say(f"loading {label}")
    service = Service(
        upstream=behind.upstream,
        serving=behind.serving,
        label=label,
        silence=behind.silence,
        app_for=assembled.app_for,
        drain_s=how.drain_s,
        say=_say,
        on_ready=tell_ready,
        traffic=assembled.traffic,
        keep=keep_traffic,
        adapter=adapter,
    )
    device = prepared.selection.host.device.name
    if calibrating := calibrated_by(device):
        warn(f"{device} is being calibrated by {calibrating}; beside this server its times will be wrong")
    with serving_on(device, model=model, url=url), kept_short(folder):
        return run(service, listening)


def _name(model: str) -> str:
    """What requests call a model: a path by its last part, everything else as it is."""
    path = Path(model)
    return (path.stem if path.suffix == ".gguf" else path.resolve().name) if path.exists() else model


def _say(*sentences: str) -> None:
    for sentence in sentences:
        click.echo(sentence, err=True)
