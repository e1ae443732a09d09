"""A fault in what adapts is logged, and ends that alone."""

from typing import Any, cast

import pytest

from selector.demand.traffic import Observed, Traffic
from selector.serve.adapt.adapter import Adapter
from selector.serve.adapt.pace import Pace
from selector.serve.adapt.relay import Kept, Relay
from selector.serve.keep.watch import Silence
from selector.serve.run import Service, _adapt
from tests.selector.serve.keep.test_gate import Slow, texts
from tests.selector.serve.keep.test_keeper import Scripted, kept, played, until


class Faulty:
    """An adapter that has a fault."""

    pace = Pace(every_s=0.01)

    def __init__(self) -> None:
        self.came: list[Observed] = []

    def add(self, came: Observed) -> None:
        self.came.append(came)

    async def look(self, relay: Relay) -> None:
        raise ZeroDivisionError


def test_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        upstream, serving, faulty, traffic = Slow(), Scripted([None]), Faulty(), Traffic(candidate="a:x")
        upstream.goes_on.set()
        written: list[Any] = []
        service = Service(
            upstream=upstream,
            serving=serving,
            label="a:x",
            silence=Silence(),
            app_for=lambda gate: None,
            drain_s=1.0,
            say=written.append,
            on_ready=written.append,
            traffic=traffic,
            keep=written.append,
            adapter=cast("Adapter", faulty),
        )
        relay = Relay(Kept(upstream=upstream, keeper=kept(serving, [])))
        relay.begin()
        await until(lambda: relay.gate.ready)
        traffic.answered(64, 32)
        await _adapt(service, relay)
        assert faulty.came == written, "what came is looked at, and kept as ever"
        assert len(written) == 1
        assert await texts(relay.gate) == ["a", ""]
        await relay.stop(at_once=False)

    played(story)
    assert "--adapt has ended; the server goes on with the engine that it has" in caplog.text
    assert "ZeroDivisionError" in caplog.text
