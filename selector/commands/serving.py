"""From a model's name to a server that runs, and what is said on the way."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calibration.errors import CacheError, UsageError
from selector.commands.terminal import note, open_cache, warn
from selector.demand.demand import Demand

if TYPE_CHECKING:
    import socket

    from selector.answer import Selection
    from selector.demand.traffic import Observed
    from selector.serve.api.listen import Address
    from selector.serve.prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a model is to be served: options of the command.

    Raises:
        UsageError: an empty name.
    """

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

    def __post_init__(self) -> None:
        if "" in self.names:
            raise UsageError("a model that is served needs a name; found ''", "leave --served-model-name out")


def choose_server(
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
    from selector.screens.calibration.progress import Progress
    from selector.selection import choose
    from selector.serve.api.listen import not_ready

    [usual] = within((DEFAULT,), ModelSpec.read(model).max_position)
    wanted = demand if demand.workloads or usual == DEFAULT else demand.for_one(usual)
    with open_cache(cache) as opened:
        if calibrate_s is not None:
            with not_ready(listening, "the model is being measured"), Progress(Console(stderr=True)) as progress:
                planning.calibrate(model, wanted, budget_s=calibrate_s, probe=True, cache=opened, reporter=progress)
        return choose(model, wanted, cache=opened, to_serve=to_serve), opened.address


def serve_selection(
    selection: "Selection", address: "Address", listening: "socket.socket", folder: Path, cache: str, how: How
) -> int:
    """Say what was chosen and why, make it ready, and serve it until it is told to stop."""
    from rich.console import Console

    from selector.planning.room import room_for
    from selector.screens import serve as screens
    from selector.screens.calibration.progress import Progress
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
    prepared: "Prepared", address: "Address", listening: "socket.socket", folder: Path, cache: str, how: How
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
