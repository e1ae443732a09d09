"""Here: the world of a running server: what its cache says now, and what this machine has memory and files for."""

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import psutil

from calibration.cache.cache import Cache
from calibration.engine.streams import Ability
from calibration.errors import IllegalBackend
from calibration.load.load import Load
from selector.answer import Selection
from selector.context import DEFAULT
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.planning.room import SHARE, room_for
from selector.selection import choose
from selector.serve.adapt.behind import Behind
from selector.serve.adapt.decide import NoRoom, NotMade, Ready, Unfit
from selector.serve.adapt.gain import Weighed
from selector.serve.prepare import Prepared, made_already

NEAR = 1.1
"""The medians of what came say no more of it than lengths do that are so many times longer or shorter."""
OTHER_FILES = "the files of the model are not those that this server has loaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user has asked for, which holds for every engine."""

    cache: str = field(repr=False)
    """Cache.address."""
    slots: int | None = None
    """Requests at once; None: nobody said."""
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """See decide.World."""

    options: Options
    prepared: Prepared
    """Of the engine that answers."""
    behind: Behind
    """The engine that answers."""
    asked_for: frozenset[Ability]
    """By requests so far, beside greedy tokens."""
    another: Callable[[Prepared], Behind]
    """The engine of a prepared candidate, not started."""
    host: Callable[[], HostSpec] = DEFAULT.host

    def weigh(self, load: Load) -> Weighed:
        """See World. Candidates are judged as if the engine that answers had given its memory back."""
        selected = self.prepared.selection
        host = _with_free(self.host(), self._held_bytes())
        return weigh(selected.model, selected.demand, load, cache=self.options.cache, host=host)

    def make_ready(self, selection: Selection) -> Ready | NotMade | NoRoom | Unfit:
        """See World. The new engine has room for all that the other one had room for: what was taken will be."""
        best, running = selection.candidate.label, self.prepared
        if selection.spec.weights_identity != running.selection.spec.weights_identity:
            return Unfit(best=best, why=OTHER_FILES)
        slots = self.options.slots or max(running.room.slots, selection.slots)
        try:
            room = room_for(selection, slots=slots, context_tokens=running.room.context_tokens)
        except IllegalBackend as error:
            return NoRoom(best=best, why=error.message)
        now = self.host()
        # Engines of accelerators take most of the free memory for their caches, whatever they need.
        beside = now.device.kind == "cpu" and room.needed_bytes <= SHARE * now.device.free_bytes
        if beside:
            selection, room = replace(selection, host=now), replace(room, free_bytes=now.device.free_bytes)
        prepared = made_already(running, selection, room, threads=self.options.threads or selection.threads)
        if prepared is None:
            forced = replace(selection.demand, backends=(best,))
            return NotMade(best=best, command=forced.command("serve", selection.model))
        behind = self.another(prepared)
        if lacking := behind.lacks(self.behind, self.asked_for):
            return Unfit(best=best, why=f"it takes no {lacking}, which this server has answered")
        made_of = (*sorted(prepared.spec.environment.items()), prepared.artifact_dir, selection.measured_at)
        return Ready(prepared=prepared, behind=behind, beside=beside, made_of=made_of)

    def _held_bytes(self) -> int:
        """Memory that the engine which answers will give back when it ends.

        On a CPU what its processes hold and no file backs, since the rest counts as free already.
        """
        if self.prepared.selection.host.device.kind != "cpu":
            return self.prepared.room.needed_bytes
        held = 0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                memory = process.memory_info()
                held += max(0, memory.rss - memory.shared)
        return held


def weigh(model: str, demand: Demand, load: Load, *, cache: Cache | str, host: HostSpec) -> Weighed:
    """What selection says of a load, and what of it was measured here with today's versions.

    A load that was measured under its candidates as servers and has about the same lengths stands for it: see
    `standing_for`.

    Raises:
        AutobackendError: as choose().
    """
    known = DEFAULT.known(DEFAULT.question(model, demand.for_one(load), cache=cache, host=host))
    records = known.served().measured.values()
    measured = {point.load for record in records for launch in record.launches for point in launch.points}
    selection = choose(model, demand.for_one(standing_for(load, measured)), cache=cache, host=host)
    fresh = known.served().measured if selection.served else known.evidence.measured
    return Weighed(selection=selection, fresh=frozenset(fresh))


def standing_for(load: Load, measured: Iterable[Load]) -> Load:
    """The load with the lengths of the nearest measured one whose means are within NEAR of its own; else itself.

    >>> one = Load.parse("pp300:tg64:c3")
    >>> standing_for(one, [Load.parse("pp310:tg60-70:c8"), Load.parse("pp300:tg80:c3")]).label
    'pp310:tg60-70:c3'
    >>> standing_for(one, [Load.parse("pp400:tg64:c3")]).label
    'pp300:tg64:c3'
    """

    def off(other: Load) -> tuple[float, float]:
        pairs = ((other.prompt.mean, load.prompt.mean), (other.output.mean, load.output.mean))
        factors = [abs(math.log(theirs / own)) for theirs, own in pairs]
        return max(factors), sum(factors)

    near = [other for other in measured if other.closed and off(other)[0] <= math.log(NEAR)]
    if not near:
        return load
    nearest = min(near, key=lambda other: (off(other), other != load, other))
    return replace(load, prompt=nearest.prompt, output=nearest.output)


def _with_free(host: HostSpec, more_bytes: int) -> HostSpec:
    """The host with more free memory on its device, where the device tells of any."""
    device, *others = host.devices
    if not device.free_bytes:
        return host
    free = min(device.free_bytes + more_bytes, device.memory_bytes or device.free_bytes)
    return replace(host, devices=(replace(device, free_bytes=free), *others))
