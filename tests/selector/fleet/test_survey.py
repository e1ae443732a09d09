"""The nodes of a cluster, and who of them takes part."""

import time
from concurrent.futures import Future
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.errors import NoNode
from selector.fleet.cluster import Call, Lost
from selector.fleet.survey import survey
from selector.host.spec import HostSpec
from tests.selector.fleet.test_drive import A, B, Machine, Machines

VERSION = "1.0"


class Asked(Machine):
    """A node that says what it is; None: it never does."""

    def __init__(self, host: HostSpec, cache: Cache, said: dict[str, Any] | Lost | None, name: str = "") -> None:
        super().__init__(host, cache, [])
        self._said = said
        self.node = type(self.node)(node_id=name or self.node.node_id, name=name or self.node.name, cpus=2, gpus=0)

    def call(self, name: str, *arguments: Any) -> Call:
        answer: Future[Any] = Future()
        if isinstance(self._said, Lost):
            answer.set_exception(self._said)
        elif self._said is not None:
            answer.set_result(self._said)
        return Call(answer)


def described(host: HostSpec, version: str = VERSION) -> dict[str, Any]:
    return {"version": version, "host": host, "lacks": {}, "at_once": 1}


def test_who_cannot_take_part_is_named_with_the_reason(cache: Cache) -> None:
    machines = [
        Asked(A, cache, described(A)),
        Asked(A, cache, described(A), name="a again"),
        Asked(B, cache, described(B, "0.9"), name="older"),
        Asked(B, cache, Lost("No module named 'selector'"), name="without"),
        Asked(B, cache, None, name="silent"),
    ]
    surveyed = survey(Machines(machines), {}, VERSION, describes_s=0.1)
    assert [member.node.name for member in surveyed.members] == ["a"]
    assert surveyed.unusable == {
        "a again": "it is the same machine as a (aaaaaaaaaaaa)",
        "older": "it has autobackend 0.9; this is 1.0",
        "without": "autobackend does not run where Ray's workers run: No module named 'selector'",
        "silent": "it did not answer within 0.1 s: other tasks of Ray may hold it",
    }


def test_silent_nodes_are_waited_for_together(cache: Cache) -> None:
    silent = [Asked(A, cache, None, name=f"silent {number}") for number in range(50)]
    began = time.monotonic()
    with pytest.raises(NoNode, match="silent 49: it did not answer within 0.1 s"):
        survey(Machines(silent), {}, VERSION, describes_s=0.1)
    assert time.monotonic() - began < 2.5  # one after the other would take 5 s
