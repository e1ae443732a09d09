"""A Ray cluster of several nodes on one machine, each of which a file calls a host of its own."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from selector.host.spec import HOST_FILE, HostSpec
from selector.machines.host_file import written


@dataclass(slots=True)
class Raylets:
    """The nodes that run."""

    folder: Path
    cluster: Any
    nodes: dict[str, Any] = field(default_factory=dict)
    """HostSpec.identifier, which is also the name of its file: the raylet."""

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def start(self, host: str, **variables: str) -> None:
        """Start a node, or start it again, with more environment variables."""
        variables = {HOST_FILE: str(self.folder / f"{host}.json"), **variables}
        self.nodes[host] = self.cluster.add_node(num_cpus=1, env_vars=variables)

    def kill(self, host: str) -> None:
        """Kill a node, at which all that Ray started on it ends."""
        node = self.nodes.pop(host)
        self.cluster.worker_nodes.discard(node)
        _kill(node)

    def kill_head(self) -> None:
        """Kill the head; the nodes live, until Ray notices that it is gone."""
        _kill(self.cluster.head_node)


def _kill(node: Any) -> None:
    for started in [one for several in node.all_processes.values() for one in several]:
        started.process.kill()
        started.process.wait()


@contextmanager
def raylets(folder: Path, kinds: Mapping[str, Sequence[str]]) -> Iterator[Raylets]:
    """Nodes of these kinds: the name of a device, and the hosts that have it."""
    from ray.cluster_utils import Cluster

    found = HostSpec.detect()
    # The head offers no core to tasks: whoever kills it kills the cluster.
    running = Raylets(folder, Cluster(initialize_head=True, head_node_args={"num_cpus": 0}))
    try:
        for device, hosts in kinds.items():
            for host in hosts:
                named = replace(found, identifier=host, devices=(replace(found.device, name=device),))
                (folder / f"{host}.json").write_text(json.dumps(written(named, None, packages=False)))
                running.start(host)
        running.cluster.wait_for_nodes()
        yield running
    finally:
        running.cluster.shutdown()


def at_work(folder: Path, host: str) -> bool:
    """Whether a command of autobackend runs on that node of the cluster in the folder."""
    return host in left_running(folder)


def niceness(folder: Path, host: str) -> int:
    """The nice value of a command of autobackend that runs on that node."""
    return next(process.nice() for file, process in _at_work() if file == folder / f"{host}.json")


def left_running(folder: Path) -> list[str]:
    """The nodes of the cluster in the folder on which a command of autobackend runs."""
    return [file.stem for file, _ in _at_work() if file.parent == folder]


def _at_work() -> Iterator[tuple[Path, psutil.Process]]:
    """Files of hosts, and commands that run there."""
    for process in psutil.process_iter():
        try:
            if any(word.endswith("autobackend.py") for word in process.cmdline()):
                file = process.environ().get(HOST_FILE, "")
                if file:
                    yield Path(file), process
        except psutil.Error:
            continue
