"""Adapter: looks now and then whether another engine would be better for what came, and puts it in the place."""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

from calibration.engine.streams import Ability
from calibration.errors import AutobackendError
from selector.demand.traffic import Observed
from selector.serve.adapt import words
from selector.serve.adapt.behind import Behind
from selector.serve.adapt.decide import Decision, Once, Ready, Switch, decide
from selector.serve.adapt.here import Here, Options
from selector.serve.adapt.pace import KEPT, Pace, Recent, State
from selector.serve.adapt.relay import Kept, NotDrained, Relay
from selector.serve.keep.keeper import Keeper
from selector.serve.keep.watch import Watch
from selector.serve.prepare import Prepared
from selector.serve.upstream import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who is told what an adapter does."""

    say: Callable[[str], None]
    """Is told in sentences what happens."""
    on_switch: Callable[[Prepared], None]
    """Is called at the moment from which on another engine answers."""
    on_restart: Callable[[str, float], None]
    """Is called after an engine was loaded again that had ended: its label, and the seconds of the load."""


class Adapter:
    """Used on the event loop; what takes a moment is done on another thread.

    Args:
        prepared: of the engine that answers at first.
        behind: that engine.
        another: the engine of another candidate of the same model, not started.
    """

    def __init__(
        self,
        prepared: Prepared,
        behind: Behind,
        *,
        another: Callable[[Prepared], Behind],
        options: Options,
        told: Told,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace = pace
        self._prepared, self._behind, self._another, self._options = prepared, behind, another, options
        self._told, self._clock = told, clock
        self._recent = Recent(KEPT * pace.requests)
        self._state = State(running=prepared.spec.label, since_s=clock())
        self._said: set[str] = set()
        """Of what the user can do: each is said once for each engine that answers."""

    def add(self, came: Observed) -> None:
        """What came since this was last called."""
        self._recent.add(came)

    async def look(self, relay: Relay) -> None:
        """Decide, and switch where that is decided; returns when the engine that was left has ended."""
        if not relay.current.keeper.ready:
            return
        came = self._recent.all
        try:
            decided = await asyncio.to_thread(self._decide, came, relay.gate.asked_for)
        except AutobackendError as error:
            self._say_once(f"whether another candidate would be better is not known: {error.message}")
            return
        self._state = replace(self._state, sure_of=decided.best if isinstance(decided, Once) else "")
        if isinstance(decided, Switch):
            assert came is not None
            await self._switch(relay, decided, came)
        elif sentence := words.advice(decided, self._state.running):
            self._say_once(sentence)

    def _decide(self, came: Observed | None, asked_for: frozenset[Ability]) -> Decision:
        here = Here(
            options=self._options,
            prepared=self._prepared,
            behind=self._behind,
            asked_for=asked_for,
            another=self._another,
        )
        return decide(self._state, came, here, now_s=self._clock(), pace=self.pace)

    async def _switch(self, relay: Relay, switch: Switch, came: Observed) -> None:
        ready, running, before = switch.ready, self._state.running, self._behind
        label = ready.prepared.spec.label
        for sentence in words.begins(switch, came, running):
            self._told.say(sentence)
        new = Kept(upstream=ready.behind.upstream, keeper=self._keeper(ready, label))

        def unfit() -> str:
            lacking = ready.behind.lacks(before, relay.gate.asked_for)
            return f"it takes no {lacking}, which this server has answered" if lacking else ""

        def switched() -> None:
            self._take(ready)
            for sentence in words.done(ready, running, new.keeper.load_s, relay.gate.running):
                self._told.say(sentence)

        self._told.say(f"loading {label}")
        change = relay.switch_beside if ready.beside else relay.switch_after
        try:
            await change(new, switched, unfit=unfit)
        except NotDrained:
            self._tried({})
            self._told.say(f"{running} goes on: its requests did not end in time; it is looked again later")
        except Unavailable as error:
            self._tried({label: ready.made_of})
            self._told.say(words.failed(label, error.message, running))
        else:
            self._told.say(f"{running} has ended")

    def _take(self, ready: Ready) -> None:
        """From now on this one answers."""
        self._prepared, self._behind = ready.prepared, ready.behind
        self._recent.clear()
        self._said.clear()
        self._state = replace(
            self._state,
            running=ready.prepared.spec.label,
            since_s=self._clock(),
            switches=self._state.switches + 1,
        )
        self._told.on_switch(ready.prepared)

    def _tried(self, failed: Mapping[str, Hashable]) -> None:
        """A switch came to nothing: the next one is not tried at once."""
        state = self._state
        self._state = replace(
            state,
            since_s=self._clock(),
            switches=state.switches + 1,
            failed={**state.failed, **failed},
        )

    def _keeper(self, ready: Ready, label: str) -> Keeper:
        def on_ready(load_s: float) -> None:
            if keeper.restarts:
                self._told.on_restart(label, load_s)

        watch = Watch(ready.behind.silence)
        keeper = Keeper(ready.behind.serving, label=label, say=self._told.say, on_ready=on_ready, watch=watch)
        return keeper

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._told.say(sentence)
