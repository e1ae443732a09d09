"""install_fleet(): backends on every node that lacks them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from selector.fleet.cluster import Broken, Cluster, Lost
from selector.fleet.command import Ended
from selector.fleet.survey import Survey

LOOK_S: Final = 1.0
"""How often is looked whether the head is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What came of a node."""

    node: str
    lacked: tuple[str, ...]
    """Of the backends that were asked for."""
    error: str = ""
    """Why it lacks one still."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend fleet install --json` prints it."""
        return {"node": self.node, "lacked": list(self.lacked), "error": self.error or None}


def install_fleet(names: Sequence[str], cluster: Cluster, surveyed: Survey) -> list[Installed]:
    """Run `autobackend backends install` on all nodes at once, each for what it lacks.

    Raises:
        ClusterUnreachable: the head of the cluster does not answer any more.
    """
    lacked = {member.node.name: tuple(name for name in names if name in member.lacks) for member in surveyed.members}
    calls = {
        member.node.name: member.agent.call("run", ["backends", "install", *lacked[member.node.name]])
        for member in surveyed.members
        if lacked[member.node.name]
    }
    came = [Installed(node=name, lacked=()) for name, missing in lacked.items() if not missing]
    for name, call in calls.items():
        try:
            while not cluster.ended([call], LOOK_S):
                cluster.require_head()
            ended: Ended = cluster.result(call)
            error = "" if ended.code == 0 else ended.details
        except (Lost, Broken) as lost:
            error = str(lost)
        came.append(Installed(node=name, lacked=lacked[name], error=error))
    for member in surveyed.members:
        member.agent.kill()
    return sorted(came, key=lambda one: one.node)
