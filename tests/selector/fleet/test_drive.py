"""The loop of a fleet: what it does with each way in which a task of a node can end."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.errors import CacheRefused, CacheUnreachable, DeviceBusy
from calibration.measurement import Measurement
from selector.demand.demand import Demand
from selector.evidence.identity import identity
from selector.fleet.cluster import Broken, Call, Cluster, ClusterNode, Handle, Lost
from selector.fleet.command import Ended
from selector.fleet.drive import calibrate_fleet
from selector.fleet.groups import kin_of
from selector.fleet.progress import Came, FleetResult, Now
from selector.fleet.survey import Member, Survey
from selector.host.spec import HostSpec
from tests.selector.answering import EAGER, HOST, MODEL, SDPA, SPEC
from tests.selector.launches import rounds

BEST = (SDPA, EAGER)
A, B = (replace(HOST, identifier=letter * 12) for letter in "ab")
AWAY = Ended(code=CacheUnreachable.exit_code, lines=("error: the cache cannot be reached",))
REFUSED = Ended(code=CacheRefused.exit_code, lines=("error: the cache does not let me in",))
BUSY = Ended(code=DeviceBusy.exit_code, lines=("error: somebody calibrates there",))
BROKEN = Broken("the cache cannot be reached", CacheUnreachable.exit_code)


def launched(host: HostSpec, labels: Sequence[str]) -> list[Measurement]:
    """A launch of each."""
    return [launch for label in labels for launch in rounds(label, identity(SPEC, host), host, (1.0,))]


class Machine(Handle):
    """A node whose commands end as they are told to, and then well: with launches in the cache."""

    def __init__(self, host: HostSpec, cache: Cache, ends: Iterable[Ended | Exception]) -> None:
        super().__init__(None, ClusterNode(node_id=host.identifier, name=host.identifier[0], cpus=2, gpus=0), None, "")
        self.host, self._cache, self._ends = host, cache, list(ends)
        self.called: list[str] = []

    def call(self, name: str, *arguments: Any) -> Call:
        answer: Future[Any] = Future()
        try:
            answer.set_result(self._answer(name))
        except (Lost, Broken) as error:
            answer.set_exception(error)
        return Call(answer)

    def kill(self) -> None:
        self.called.append("kill")

    def _answer(self, name: str) -> Any:
        if name == "now":
            return ""
        self.called.append(name)
        if self._ends:
            end = self._ends.pop(0)
            if isinstance(end, Exception):
                raise end
            return end
        known = {launch.candidate.label for launch in self._cache.all(host=self.host.identifier)}
        self._cache.add(*launched(self.host, [label for label in BEST if label not in known]))
        return Ended(code=0, lines=(), best=BEST if name == "calibrate" else ())


class Machines(Cluster):
    """These nodes; `dead` are the names of those that Ray misses."""

    def __init__(self, machines: Sequence[Machine], dead: Sequence[str] = ()) -> None:
        super().__init__(None, "head:6379")
        self._alive = [machine for machine in machines if machine.node.name not in dead]

    def require_head(self) -> None:
        pass

    def nodes(self) -> list[ClusterNode]:
        return [machine.node for machine in self._alive]

    def agent(self, node: ClusterNode, variables: Mapping[str, str]) -> Handle:
        return next(machine for machine in self._alive if machine.node == node)

    def ended(self, calls: Sequence[Call], within_s: float) -> list[Call]:
        return list(calls)

    def result(self, call: Call, within_s: float | None = None) -> Any:
        return call.ref.result(within_s)


class Told:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.hows: list[str] = []
        self.sentences: list[str] = []

    def now(self, now: Now, /) -> None:
        pass

    def came(self, came: Came, /) -> None:
        self.hows.append(f"{came.task.host}: {came.how}")

    def said(self, sentence: str, /) -> None:
        self.sentences.append(sentence)


def drive(
    cache: Cache, *machines: Machine, dead: Sequence[str] = (), patience_s: float = 900.0
) -> tuple[FleetResult, Told]:
    members = tuple(Member(node=one.node, agent=one, host=one.host, lacks={}, at_once=1) for one in machines)
    told = Told()
    result = calibrate_fleet(
        [MODEL],
        Demand.of(workload="pp128:tg32:b1"),
        Machines(machines, dead),
        Survey(members=members, unusable={}),
        cache,
        told,
        variables={"AUTOBACKEND_CACHE": cache.address},
        busy_s=0.01,
        patience_s=patience_s,
    )
    return result, told


def launches(cache: Cache) -> list[tuple[str, str]]:
    return sorted((one.identity.host[0], one.candidate.label) for one in cache.all())


EVERYTHING = sorted((host, label) for host in "ab" for label in BEST)


def test_one_host_calibrates_and_the_other_is_compared(cache: Cache) -> None:
    a, b = Machine(A, cache, []), Machine(B, cache, [])
    result, told = drive(cache, a, b)
    assert result.complete
    assert (a.called, b.called) == (["calibrate", "kill"], ["run", "kill"])
    assert told.hows == [f"a: measured: {SDPA}", "b: measured"]
    assert launches(cache) == EVERYTHING


@pytest.mark.parametrize("end", [AWAY, BUSY, BROKEN])
def test_what_passes_by_itself_is_tried_again(cache: Cache, end: Ended | Exception) -> None:
    a, b = Machine(A, cache, [end]), Machine(B, cache, [end])
    result, told = drive(cache, a, b)
    assert result.complete
    assert not result.given_up
    assert [how.startswith(f"{how[0]}: again in 0.01 s: ") for how in told.hows] == [True, False, True, False]
    assert launches(cache) == EVERYTHING


def test_a_calibration_without_an_answer_is_tried_on_another_host(cache: Cache) -> None:
    result, told = drive(cache, Machine(A, cache, [Ended(code=0, lines=())]), Machine(B, cache, []))
    assert told.hows == ["a: it ended without an answer", f"b: measured: {SDPA}", "a: measured"]
    assert not result.given_up


def test_a_node_that_the_cache_does_not_answer_leaves_its_model_to_another(cache: Cache) -> None:
    result, told = drive(cache, Machine(A, cache, [AWAY]), Machine(B, cache, []), patience_s=0.0)
    assert told.sentences == ["a takes part no more: the cache cannot be reached"]
    assert launches(cache) == [("b", EAGER), ("b", SDPA)]
    assert [(one.host, one.calibrated, one.gone) for one in result.standings] == [
        ("a", (), "the cache cannot be reached"), ("b", (MODEL,), ""),
    ]  # fmt: skip


def test_a_refusal_does_not_pass(cache: Cache) -> None:
    result, _ = drive(cache, Machine(A, cache, [REFUSED]), Machine(B, cache, [REFUSED]))
    assert result.given_up == {kin_of(A): {MODEL: "the cache does not let me in"}}
    assert launches(cache) == []


def test_a_dead_node_leaves_its_model_to_another(cache: Cache) -> None:
    result, told = drive(cache, Machine(A, cache, [Lost("the actor died")]), Machine(B, cache, []), dead=["a"])
    assert told.sentences == ["a takes part no more: the node died"]
    assert launches(cache) == [("b", EAGER), ("b", SDPA)]
    assert not result.given_up


def test_what_died_on_a_node_that_lives_begins_again(cache: Cache) -> None:
    a = Machine(A, cache, [Lost("the actor died")])
    result, told = drive(cache, a)
    assert told.sentences == ["a: what ran there ended and begins again (the actor died)"]
    assert a.called == ["calibrate", "calibrate", "kill"]
    assert result.complete


def test_a_spot_check_that_was_interrupted_is_finished(cache: Cache) -> None:
    cache.add(*launched(A, BEST), *launched(B, BEST[:1]))
    drive(cache, Machine(A, cache, []), b := Machine(B, cache, []))
    assert b.called == ["run", "kill"]
    assert launches(cache) == EVERYTHING
