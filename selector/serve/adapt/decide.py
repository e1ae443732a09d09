"""decide(): whether another engine is to take the place of the one that answers, by what came and by the clock."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from calibration.load.load import Load
from selector.answer import Selection
from selector.demand.traffic import Observed
from selector.serve.adapt.behind import Behind
from selector.serve.adapt.gain import Better, NoGain, Unsure, Weighed, gain_of
from selector.serve.adapt.pace import Pace, State
from selector.serve.prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class TooSoon:
    """The engine that answers has not answered for long enough."""

    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TooFew:
    """So few requests say nothing."""

    requests: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMade:
    """The model would have to be converted first, which takes cores and memory from the requests that run."""

    best: str
    command: str
    """That converts it, and serves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """It does not fit here, not even in the place of the one that answers."""

    best: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """It would answer otherwise than the one that answers."""

    best: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBefore:
    """It did not come up when it was tried, and nothing of it has changed since."""

    best: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """It is surely better, which must be so at the next look, too."""

    best: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A candidate whose engine can be started."""

    prepared: Prepared
    behind: Behind
    beside: bool
    """There is memory for both engines at once; else the one that answers must end first."""
    made_of: Hashable
    """What would have to change before another try could end otherwise: versions, conversion, measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """It is to answer from now on."""

    better: Better
    ready: Ready


Stay = TooSoon | TooFew | NoGain | Unsure | NotMade | NoRoom | Unfit | FailedBefore | Once
Decision = Stay | Switch


class World(Protocol):
    """What is asked before it is decided: caches, memory and the store. It takes a moment, so it is asked last."""

    def weigh(self, load: Load) -> Weighed:
        """What selection says of a load.

        Raises:
            AutobackendError: as choose().
        """

    def make_ready(self, selection: Selection) -> Ready | NotMade | NoRoom | Unfit:
        """The engine of a selection, not started yet, as far as nothing must be made for it.

        Raises:
            AutobackendError: the host or the store cannot be looked at.
        """


def decide(state: State, came: Observed | None, world: World, *, now_s: float, pace: Pace) -> Decision:
    """Whether to switch, and to what; else why not.

    Args:
        came: since the engine that answers began to.
        now_s: on the clock of `state`.
    """
    left_s = state.since_s + pace.stays_s(state.switches) - now_s
    if left_s > 0:
        return TooSoon(left_s=left_s)
    if came is None or came.requests < pace.requests:
        return TooFew(requests=came.requests if came else 0, needed=pace.requests)
    weighed = world.weigh(came.load)
    gain = gain_of(weighed, state.running)
    if not isinstance(gain, Better):
        return gain
    ready = world.make_ready(weighed.selection)
    if not isinstance(ready, Ready):
        return ready
    if state.failed.get(gain.best) == ready.made_of:
        return FailedBefore(best=gain.best)
    if state.sure_of != gain.best:
        return Once(best=gain.best)
    return Switch(better=gain, ready=ready)
