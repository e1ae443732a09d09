"""Backends on every node that lacks them."""

from typing import Any

from calibration.cache.cache import Cache
from selector.fleet.cluster import Call, Lost
from selector.fleet.command import Ended
from selector.fleet.install import Installed, install_fleet
from selector.fleet.survey import Member, Survey
from tests.selector.fleet.test_drive import A, B, Machine, Machines


class Installing(Machine):
    """A node that keeps what it is told to run."""

    def call(self, name: str, *arguments: Any) -> Call:
        self.called += [" ".join(words) for words in arguments]
        return super().call(name, *arguments)


def test_each_node_installs_what_it_lacks_and_who_cannot_says_why(cache: Cache) -> None:
    full = Ended(code=12, lines=("error: 1 of 1 could not be installed", "  llamacpp is not installed: no space left"))
    machines = [
        Installing(A, cache, [Ended(code=0, lines=())]),
        Installing(B, cache, [full]),
        Installing(B, cache, [Lost("the node died")]),
        Installing(B, cache, []),
    ]
    lacks = [{"openvino": "", "llamacpp": "", "vllm": ""}, {"llamacpp": ""}, {"openvino": ""}, {}]
    members = [
        Member(
            node=type(one.node)(node_id=f"n{place}", name=f"n{place}", cpus=2, gpus=0),
            agent=one, host=one.host, lacks=lacked, at_once=1,
        )
        for place, (one, lacked) in enumerate(zip(machines, lacks, strict=True))
    ]  # fmt: skip
    came = install_fleet(["llamacpp", "openvino"], Machines(machines), Survey(members=tuple(members), unusable={}))
    assert came == [
        Installed(node="n0", lacked=("llamacpp", "openvino")),
        Installed(node="n1", lacked=("llamacpp",), error="llamacpp is not installed: no space left"),
        Installed(node="n2", lacked=("openvino",), error="the node died"),
        Installed(node="n3", lacked=()),
    ]
    assert [one.called for one in machines] == [
        ["backends install llamacpp openvino", "run", "kill"],
        ["backends install llamacpp", "run", "kill"],
        ["backends install openvino", "run", "kill"],
        ["kill"],
    ]
