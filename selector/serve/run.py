"""Runs the front beside the kept engine until it is told to stop: then running requests end, and no new ones come."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvloop

from selector.demand.traffic import Observed, Traffic
from selector.serve.adapt.adapter import Adapter
from selector.serve.adapt.relay import Kept, Relay
from selector.serve.api.listen import Server
from selector.serve.keep.gate import Gate
from selector.serve.keep.keeper import Keeper, Serving
from selector.serve.keep.watch import Silence, Watch
from selector.serve.upstream import Upstream

STOPS = (signal.SIGINT, signal.SIGTERM)
KEEP_EVERY_S = 60.0

_LOG = logging.getLogger("autobackend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What runs."""

    upstream: Upstream
    serving: Serving
    """The engine behind the upstream."""
    label: str
    """The candidate's."""
    silence: Silence
    """For how long the engine may give nothing while requests run."""
    app_for: Callable[[Gate], Any]
    """The front, an ASGI application, that asks there."""
    drain_s: float
    """How long running requests may still take when it is told to stop."""
    say: Callable[[str], None]
    """Is told in sentences what happens."""
    on_ready: Callable[[float], None]
    """Is called after each load of the engine with its seconds."""
    traffic: Traffic
    keep: Callable[[Observed], None]
    """Is given now and then, and at the end, what came; on another thread."""
    adapter: Adapter | None = None
    """Puts other engines in the place of this one; None: nobody does."""


def run(service: Service, listening: socket.socket) -> int:
    """Serve until a signal comes.

    Returns:
        0 when it was told to stop; 128 + signal when it was told twice, and ended at once.

    Raises:
        NotServed: the engine cannot be kept running.
    """
    # What is there by now stays: no collection needs to look at it again, which takes 100 ms.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(_run(service, listening))


def event_loop() -> asyncio.AbstractEventLoop:
    """The loop on which a server answers; asyncio's own takes more CPU time for each token."""
    return uvloop.new_event_loop()


async def _run(service: Service, listening: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in STOPS:
        loop.add_signal_handler(number, told.put_nowait, number)
    keeper = Keeper(
        service.serving,
        label=service.label,
        say=service.say,
        on_ready=service.on_ready,
        watch=Watch(service.silence),
    )
    relay = Relay(Kept(upstream=service.upstream, keeper=keeper))
    gate = relay.gate
    server = Server(service.app_for(gate))
    answering = loop.create_task(server.serve(sockets=[listening]))
    relay.begin()
    stop = loop.create_task(told.get())
    keeping_up = loop.create_task(_keep_up(service))
    adapting = loop.create_task(_adapt(service, relay))
    again: signal.Signals | None = None
    try:
        waited_for: set[asyncio.Future[Any]] = {relay.lost, answering, stop}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        gate.close()
        adapting.cancel()  # no engine begins any more; where one was loading, nothing of it is left
        await asyncio.wait({adapting})
        for ended in (relay.lost, answering):
            if ended.done():
                ended.result()
        again = await _drain(gate, told, service)
    finally:
        gate.close()
        for task in (stop, keeping_up, adapting):
            task.cancel()
        await asyncio.gather(keeping_up, adapting, return_exceptions=True)
        await relay.stop(at_once=gate.running > 0)
        if again:
            answering.cancel()
        server.should_exit = True
        await asyncio.gather(answering, return_exceptions=True)
        await _keep(service)
    return 128 + again if again else 0


async def _keep_up(service: Service) -> None:
    while True:
        await asyncio.sleep(KEEP_EVERY_S)
        await _keep(service)


async def _keep(service: Service) -> None:
    if came := service.traffic.take():
        if service.adapter:
            service.adapter.add(came)
        await asyncio.shield(asyncio.to_thread(service.keep, came))


async def _adapt(service: Service, relay: Relay) -> None:
    """Look now and then whether another engine would be better. What fails there ends that, and not the server."""
    if service.adapter is None:
        return
    try:
        while True:
            await asyncio.sleep(service.adapter.pace.every_s)
            await _keep(service)
            await service.adapter.look(relay)
    except Exception:  # noqa: BLE001  whatever it is, it is logged, and requests go on
        _LOG.exception("--adapt has ended; the server goes on with the engine that it has")


async def _drain(gate: Gate, told: "asyncio.Queue[signal.Signals]", service: Service) -> signal.Signals | None:
    """Wait until no request runs, or the time is up; the signal, if one comes meanwhile."""
    if not gate.running:
        return None
    running = "1 request runs" if gate.running == 1 else f"{gate.running} requests run"
    service.say(f"stopping: {running} and may end within {service.drain_s:g} s; a second signal ends all at once")
    idle, again = asyncio.ensure_future(gate.wait_until_idle()), asyncio.ensure_future(told.get())
    try:
        await asyncio.wait({idle, again}, timeout=service.drain_s, return_when=asyncio.FIRST_COMPLETED)
        if again.done():
            return again.result()
        if not idle.done():
            service.say(f"{gate.running} did not end within {service.drain_s:g} s and are cut off")
        return None
    finally:
        idle.cancel()
        again.cancel()
