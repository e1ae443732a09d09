"""A Ray cluster: its nodes, and an agent on each of them. The only module that knows Ray."""

import contextlib
import logging
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from calibration.errors import ClusterDiffers, ClusterUnreachable, UsageError
from selector.fleet.agent import Agent

ANSWERS_S: Final = 10.0
"""Within this an address answers, or nobody listens there."""
HEAD_S: Final = 30.0
"""A head that does not answer for so long is given up. Ray ends this process after 60 s without it, in words of its
own (gcs_rpc_server_reconnect_timeout_s)."""
HEAD_ANSWERS_S: Final = 2.0
"""Within this a head that lives takes a connection."""
AT_ONCE: Final = 3
"""Calls of an agent at once: a command, what it does now, and one question."""
_IMPORT: Final = re.compile(r"^(?:ModuleNotFoundError|ImportError): (.+)$", re.MULTILINE)
_VERSIONS: Final = re.compile(
    r"Version mismatch: .*?Ray: (\S+)\s+Python: (\S+).*?Ray: (\S+)\s+Python: (\S+)", re.DOTALL
)
"""What Ray says of a cluster of other versions, which it names, and then ours (ray._private.utils.check_version_info,
Ray 2.60)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """A node that is alive."""

    node_id: str
    name: str
    """Its host name, and its address where several nodes have that name."""
    cpus: float
    gpus: float


class Lost(Exception):
    """An agent is not there any more: its node died, or its process did. Says why."""


class Broken(Exception):
    """A call of an agent raised; says what.

    Args:
        code: AutobackendError.exit_code of what it raised; 1 of all else.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an agent that has begun."""

    ref: Any


class Handle:
    """An agent on a node. It holds the whole node, so that nothing else of Ray runs beside what it times.

    Args:
        head: where the head of its cluster listens, HOST:PORT.
    """

    def __init__(self, ray: Any, node: ClusterNode, actor: Any, head: str) -> None:
        self._ray, self.node, self._actor, self._head = ray, node, actor, head

    def call(self, name: str, *arguments: Any) -> Call:
        """Begin a call of Agent.NAME."""
        return Call(getattr(self._actor, name).remote(*arguments))

    def kill(self) -> None:
        """End the agent and all that it runs."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            if _answers(self._head, HEAD_ANSWERS_S):
                self._ray.kill(self._actor)
            else:
                self._actor.end.remote()  # Ray's own kill goes by the head


class Cluster:
    """A cluster that this process has joined.

    Args:
        head: where its head listens, HOST:PORT.
    """

    def __init__(self, ray: Any, head: str) -> None:
        self._ray, self._head = ray, head

    def require_head(self) -> None:
        """Wait for the head where it does not answer.

        Raises:
            ClusterUnreachable: it does not for HEAD_S.
        """
        end = time.monotonic() + HEAD_S
        while not _answers(self._head, HEAD_ANSWERS_S):
            if time.monotonic() >= end:
                raise ClusterUnreachable(
                    f"the head of the Ray cluster at {self._head} does not answer any more",
                    "start Ray there and on the nodes again; the same command goes on from what was measured",
                )
            time.sleep(1.0)

    def nodes(self) -> list[ClusterNode]:
        """The nodes that are alive, in a fixed order; one that offers no core to tasks, as a head may, is none.

        Raises:
            ClusterUnreachable: the head does not answer any more.
        """
        self.require_head()
        alive = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0.0) > 0]
        names = [node["NodeManagerHostname"] for node in alive]
        nodes = [
            ClusterNode(
                node_id=node["NodeID"],
                name=name if names.count(name) == 1 else f"{name} {node['NodeID'][:6]}",
                cpus=node["Resources"].get("CPU", 0.0),
                gpus=node["Resources"].get("GPU", 0.0),
            )
            for node, name in zip(alive, names, strict=True)
        ]
        return sorted(nodes, key=lambda node: (node.name, node.node_id))

    def agent(self, node: ClusterNode, variables: Mapping[str, str]) -> Handle:
        """Start an agent on a node; whether it came to life shows with its first call."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            self._ray.remote(Agent)
            .options(
                num_cpus=node.cpus,
                num_gpus=node.gpus,
                max_concurrency=AT_ONCE,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node.node_id, soft=False),
            )
            .remote(dict(variables))
        )
        return Handle(self._ray, node, actor, self._head)

    def ended(self, calls: Sequence[Call], within_s: float) -> list[Call]:
        """Those that have ended, as soon as one has or the time is over."""
        by_ref = {call.ref: call for call in calls}
        ready, _ = self._ray.wait(list(by_ref), num_returns=1, timeout=within_s)
        if ready and len(by_ref) > 1:
            ready, _ = self._ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0)
        return [by_ref[ref] for ref in ready]

    def result(self, call: Call, within_s: float | None = None) -> Any:
        """What a call returned.

        Raises:
            Lost: its agent is not there any more.
            Broken: it raised.
            TimeoutError: it has not ended within the time.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(call.ref, timeout=within_s)
        except errors.GetTimeoutError as error:
            raise TimeoutError from error
        except (errors.RayActorError, errors.NodeDiedError, errors.ActorUnschedulableError) as error:
            raise Lost(_sentence(error)) from error
        except errors.RayTaskError as error:
            cause = error if error.cause is None else error.cause
            raise Broken(_sentence(cause), getattr(cause, "exit_code", 1)) from error
        except errors.RayError as error:
            raise Broken(_sentence(error)) from error


@contextlib.contextmanager
def joined(address: str) -> Iterator[Cluster]:
    """The cluster at an address, as ray.init takes it: HOST:PORT, ray://HOST:PORT, or auto.

    Raises:
        UsageError: Ray is not installed.
        ClusterUnreachable: nobody answers there, or no cluster of Ray.
        ClusterDiffers: a Ray or a Python of another version.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"a fleet needs Ray: {error}", "pip install 'autobackend[fleet]'") from error
    _require_an_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        if versions := _VERSIONS.search(str(error)):
            raise _differs(address, *versions.groups()) from error
        raise ClusterUnreachable(
            f"the Ray cluster at {address} cannot be joined: {_sentence(error)}",
            f"look there with ray status --address {address}; this is Ray {ray.__version__}",
        ) from error
    try:
        client = address.startswith("ray://")
        yield Cluster(ray, urlsplit(address).netloc if client else ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def _require_an_answer(address: str) -> None:
    """Ask at once, since Ray tries for a minute. Raises ClusterUnreachable."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host, port = None, None
    if address in {"auto", "local"}:
        return
    if not host or not port:
        raise UsageError(f"needs an address like head:6379 or ray://head:10001, or auto; found {address!r}")
    try:
        socket.create_connection((host, port), timeout=ANSWERS_S).close()
    except OSError as error:
        raise ClusterUnreachable(
            f"nobody answers at {address}: {error.strerror or error}",
            "start a cluster there (ray start --head --port 6379), or name another address",
        ) from error


def _differs(address: str, there: str, python_there: str, here: str, python_here: str) -> ClusterDiffers:
    mend = f"run it with Python {python_there}, as on the nodes"
    if there != here:
        mend = f"install the same here: pip install 'ray=={there}'"
    return ClusterDiffers(
        f"the cluster at {address} is of Ray {there} with Python {python_there};"
        f" here is Ray {here} with Python {python_here}",
        mend,
    )


def _answers(place: str, within_s: float) -> bool:
    """Whether somebody takes a connection at HOST:PORT."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=within_s).close()
    except OSError:
        return False
    return True


def _sentence(error: BaseException) -> str:
    """Of what a worker could not import, that; of all else the first line: Ray's own have a dozen, and a traceback."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next(iter([*_IMPORT.findall(text)[-1:], *lines]), type(error).__name__)
