"""The nodes of a cluster as hosts: what machine each of them is, and who of them cannot take part."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from calibration.errors import NoNode
from selector.fleet.cluster import Broken, Cluster, ClusterNode, Handle, Lost
from selector.fleet.groups import Kin, grouped, kin_of
from selector.host.spec import HostSpec

DESCRIBES_S: Final = 120.0
"""A node that holds other tasks, or that starts its first process of Ray, may take its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node that takes part."""

    node: ClusterNode
    agent: Handle
    host: HostSpec
    lacks: Mapping[str, str]
    """Backend that does not run there: why it never can; empty: it can be installed."""
    at_once: int
    """On how many of its devices the candidates of a model run at once."""

    @property
    def kin(self) -> Kin:
        return kin_of(self.host)

    def to_json(self) -> dict[str, Any]:
        """As `autobackend fleet hosts --json` prints it."""
        return {
            "node": self.node.name,
            "node_id": self.node.node_id,
            "host": self.host.identifier,
            "at_once": self.at_once,
            "lacks": [name for name, why in self.lacks.items() if not why],
            "unfit": {name: why for name, why in self.lacks.items() if why},
            "spec": self.host.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All nodes of a cluster."""

    members: tuple[Member, ...]
    unusable: Mapping[str, str]
    """Node: why it takes no part."""

    @property
    def groups(self) -> dict[Kin, tuple[str, ...]]:
        """The hosts that are alike, by Member.node.name."""
        return grouped({member.node.name: member.host for member in self.members})

    def member(self, name: str) -> Member:
        """The one of that name."""
        return next(member for member in self.members if member.node.name == name)

    def to_json(self) -> dict[str, Any]:
        """As `autobackend fleet hosts --json` prints it."""
        return {
            "groups": [
                {**kin.to_json(), "hosts": [self.member(name).to_json() for name in names]}
                for kin, names in self.groups.items()
            ],
            "unusable": dict(self.unusable),
        }


def survey(cluster: Cluster, variables: Mapping[str, str], version: str, *, describes_s: float = DESCRIBES_S) -> Survey:
    """Start an agent on every node and ask it what machine it is.

    Args:
        variables: of the environment, over those of the nodes.
        version: of autobackend, which must be the nodes', too.
        describes_s: so long all of them together may take to answer.

    Raises:
        NoNode: not one can take part.
    """
    agents = [cluster.agent(node, variables) for node in cluster.nodes()]
    calls = [(agent, agent.call("describe")) for agent in agents]
    members, unusable = list[Member](), dict[str, str]()
    end = time.monotonic() + describes_s
    for agent, call in calls:
        try:
            described = cluster.result(call, max(0.0, end - time.monotonic()))
        except (Lost, Broken) as error:
            unusable[agent.node.name] = f"autobackend does not run where Ray's workers run: {error}"
        except TimeoutError:
            unusable[agent.node.name] = f"it did not answer within {describes_s:g} s: other tasks of Ray may hold it"
        else:
            host = described["host"]
            twin = next((one.node.name for one in members if one.host.identifier == host.identifier), "")
            if described["version"] != version:
                unusable[agent.node.name] = f"it has autobackend {described['version']}; this is {version}"
            elif twin:
                unusable[agent.node.name] = f"it is the same machine as {twin} ({host.identifier})"
            else:
                lacks, at_once = described["lacks"], described["at_once"]
                members.append(Member(node=agent.node, agent=agent, host=host, lacks=lacks, at_once=at_once))
        if agent.node.name in unusable:
            agent.kill()
    if not members:
        raise NoNode(
            "\n  ".join(["no node can take part", *(f"{name}: {why}" for name, why in unusable.items())]),
            "install autobackend in the environment of Ray's workers on the nodes, in this version",
        )
    return Survey(members=tuple(members), unusable=unusable)
