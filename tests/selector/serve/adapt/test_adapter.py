"""Adapter: it switches when that is decided, says what happens once, and never tries what failed at once again."""

import asyncio

import pytest

from calibration.cache.cache import Cache
from calibration.engine.streams import Ability
from calibration.errors import CacheError
from selector.demand.traffic import Observed
from selector.serve.adapt.adapter import Adapter, Told
from selector.serve.adapt.decide import Decision, NoRoom, Once, Ready, Switch
from selector.serve.adapt.gain import Better
from selector.serve.adapt.here import Options
from selector.serve.adapt.pace import Pace
from selector.serve.adapt.relay import Kept, Relay
from selector.serve.prepare import Prepared
from selector.serve.upstream import Unavailable
from tests.selector.answering import CT2, SDPA
from tests.selector.serve.adapt.making import behind, came, prepared, under_load, weighed
from tests.selector.serve.clock import Clock
from tests.selector.serve.keep.test_gate import texts
from tests.selector.serve.keep.test_keeper import Scripted, kept, played, until


class Deciding(Adapter):
    """It decides what it was told to."""

    decisions: list[Decision | Exception]

    def _decide(self, came: Observed | None, asked_for: frozenset[Ability]) -> Decision:
        decision = self.decisions.pop(0)
        if isinstance(decision, Exception):
            raise decision
        return decision


class Stage:
    """An adapter of a server of CT2, and what it is told to say and to switch to."""

    def __init__(self, cache: Cache, *decisions: "Decision | Exception") -> None:
        self.clock, self.said, self.switched, self.restarted = Clock(), list[str](), list[Prepared](), list[str]()
        selection = weighed(cache, under_load(CT2, 80.0), backends=[CT2]).selection
        self.old = behind(serving=Scripted([None, None]))
        self.adapter = Deciding(
            prepared(selection),
            self.old,
            another=lambda _: behind(),
            options=Options(cache=cache.location),
            told=Told(
                say=self.said.append,
                on_switch=self.switched.append,
                on_restart=lambda label, _: self.restarted.append(label),
            ),
            pace=Pace(every_s=300.0),
            clock=self.clock,
        )
        self.adapter.decisions = list(decisions)
        self.adapter.add(came(120))

    async def relay(self, *, drain_s: float = 1.0) -> Relay:
        """Once CT2 answers; its requests end at once."""
        self.old.upstream.goes_on.set()  # type: ignore[attr-defined]  # of tests.selector.serve.keep.test_gate.Slow
        relay = Relay(Kept(upstream=self.old.upstream, keeper=kept(self.old.serving, self.said)), drain_s=drain_s)
        relay.begin()
        await until(lambda: relay.gate.ready)
        return relay


def switch_to(cache: Cache, serving: Scripted, *, beside: bool = True) -> Switch:
    selection = weighed(cache, under_load(SDPA, 240.0)).selection
    assert selection.candidate.label == SDPA
    new = behind(serving=serving)
    new.upstream.goes_on.set()  # type: ignore[attr-defined]
    ready = Ready(prepared=prepared(selection), behind=new, beside=beside, made_of="today")
    return Switch(better=Better(best=SDPA, times=3.0, half=0.25), ready=ready)


@pytest.mark.parametrize("beside", [True, False])
def test_it_switches_and_tells_who_must_know(cache: Cache, beside: bool) -> None:
    async def story() -> None:
        serving = Scripted([None, None])
        stage = Stage(cache, Once(best=SDPA), switch_to(cache, serving, beside=beside))
        relay = await stage.relay()
        await stage.adapter.look(relay)
        assert (stage.said, stage.adapter._state.sure_of) == ([], SDPA)
        stage.clock.now = 300.0
        await stage.adapter.look(relay)
        assert [made.spec.label for made in stage.switched] == [SDPA]
        assert (relay.current.upstream, await texts(relay.gate)) == (relay.gate._lane.upstream, ["a", ""])
        state = stage.adapter._state
        assert (state.running, state.since_s, state.switches, state.sure_of) == (SDPA, 300.0, 1, "")
        assert stage.adapter._recent.all is None, "what came before says nothing of the new one"
        assert stage.old.serving.done == ["start", "stop"]  # type: ignore[attr-defined]
        said = [line.split()[0] for line in stage.said]
        assert said[:4] == ["came", "better", "memory", "loading"]
        assert f"{CT2} has ended" in stage.said
        await asyncio.sleep(0.01)  # until its keeper waits for its end
        serving._end("killed by SIGKILL")
        await until(lambda: bool(stage.restarted))
        assert stage.restarted == [SDPA]
        await relay.stop(at_once=False)

    played(story)


@pytest.mark.parametrize("beside", [True, False])
def test_an_engine_that_does_not_come_up_is_remembered(cache: Cache, beside: bool) -> None:
    async def story() -> None:
        stage = Stage(cache, switch_to(cache, Scripted([Unavailable("out of memory\nlog")]), beside=beside))
        relay = await stage.relay()
        stage.clock.now = 600.0
        await stage.adapter.look(relay)
        assert (stage.switched, await texts(relay.gate)) == ([], ["a", ""])
        state = stage.adapter._state
        assert (state.running, state.since_s, state.switches, dict(state.failed)) == (CT2, 600.0, 1, {SDPA: "today"})
        assert stage.said[-1].startswith(f"{SDPA} did not come up: out of memory; {CT2} goes on. ")
        await relay.stop(at_once=False)

    played(story)


def test_what_the_user_can_do_is_said_once(cache: Cache) -> None:
    async def story() -> None:
        stays: list[Decision | Exception] = [
            NoRoom(best=SDPA, why="x"),
            NoRoom(best=SDPA, why="x"),
            NoRoom(best=SDPA, why="y"),
            CacheError("gone"),
        ]
        stage = Stage(cache, *stays)
        relay = await stage.relay()
        for _ in range(4):
            await stage.adapter.look(relay)
        assert stage.said == [
            f"{SDPA} is better than {CT2} for what came, and does not fit: x",
            f"{SDPA} is better than {CT2} for what came, and does not fit: y",
            "whether another candidate would be better is not known: gone",
        ]
        await relay.stop(at_once=False)

    played(story)


def test_while_the_engine_is_away_nothing_is_decided(cache: Cache) -> None:
    async def story() -> None:
        stage = Stage(cache, CacheError("never"))
        relay = Relay(Kept(upstream=stage.old.upstream, keeper=kept(stage.old.serving, stage.said)))
        await stage.adapter.look(relay)
        assert stage.adapter.decisions, "it was not asked"

    played(story)


def test_requests_that_do_not_end_in_time_put_it_off(cache: Cache) -> None:
    async def story() -> None:
        stage = Stage(cache, switch_to(cache, Scripted([None]), beside=False))
        relay = await stage.relay(drain_s=0.02)
        stage.old.upstream.goes_on.clear()  # type: ignore[attr-defined]
        asked = asyncio.create_task(texts(relay.gate))
        await until(lambda: relay.gate.running == 1)
        await stage.adapter.look(relay)
        assert stage.switched == []
        assert stage.said[-1] == f"{CT2} goes on: its requests did not end in time; it is looked again later"
        stage.old.upstream.goes_on.set()  # type: ignore[attr-defined]
        assert await asked == ["a", ""]
        await relay.stop(at_once=False)

    played(story)
