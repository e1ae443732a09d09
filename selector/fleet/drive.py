"""calibrate_fleet(): gives the board's tasks to the agents of the nodes, and tells the board what came of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from calibration.cache.cache import Cache
from calibration.errors import CacheError, CacheUnreachable, DeviceBusy, UsageError
from selector.demand.demand import Demand
from selector.fleet.board import VERIFY, Board
from selector.fleet.cluster import Broken, Call, Cluster, Lost
from selector.fleet.command import Ended
from selector.fleet.groups import Kin
from selector.fleet.progress import Came, Doing, FleetReporter, FleetResult, Now
from selector.fleet.record import times_by_host
from selector.fleet.survey import Survey
from selector.fleet.tasks import Calibrate, SpotCheck, Task
from selector.model.spec import ModelSpec

LOOK_S: Final = 1.0
"""How often is looked what the agents do."""
BUSY_S: Final = 30.0
"""A device that another program calibrates, and a database that does not answer, are tried again after this."""
PATIENCE_S: Final = 900.0
"""A database that does not answer for so long is given up, and so is a node that it does not answer."""
PASSING: Final = frozenset({CacheError.exit_code, CacheUnreachable.exit_code})
"""Of a cache that may answer later: a file that others write, and a server that is away. A refusal does not pass."""
AGENTS: Final = 3
"""So many agents are started on a node that lives; who ends them all takes part no more."""


def calibrate_fleet(
    models: Sequence[str],
    demand: Demand,
    cluster: Cluster,
    surveyed: Survey,
    cache: Cache,
    reporter: FleetReporter,
    *,
    variables: Mapping[str, str],
    words: Sequence[str] = (),
    verify: int | None = VERIFY,
    busy_s: float = BUSY_S,
    patience_s: float = PATIENCE_S,
) -> FleetResult:
    """Calibrate each model on one host of each group, and compare the other hosts with it.

    Args:
        cache: the shared one; agents find it by AUTOBACKEND_CACHE among `variables`.
        words: options of `autobackend calibrate` beside those of the demand.
        verify: on how many models each host is compared; None: on all.
        busy_s: after this a device that is busy, and a cache that does not answer, are tried again.
        patience_s: a cache that does not answer for so long is given up.

    Raises:
        UsageError: the demand has loads.
        ModelError: a model cannot be read here.
        CacheError: the shared cache does not answer for `patience_s`, or refuses.
        ClusterUnreachable: the head of the cluster does not answer any more.
    """
    refuse_loads(demand)
    return _Drive(
        models, demand, cluster, surveyed, cache, reporter, variables, tuple(words), verify, busy_s, patience_s
    ).run()


def refuse_loads(demand: Demand) -> None:
    """Raise UsageError where a load is asked for: no host inherits what another one did under load.

    An answer for a load stands on launches of the host itself (selector.served), so a fleet would save nothing.
    """
    if demand.loads:
        raise UsageError(
            f"a fleet is calibrated for batches, since no host inherits what another did under load;"
            f" found {', '.join(load.label for load in demand.loads)}",
            "calibrate the batches of all hosts so, and loads on each host that serves: autobackend calibrate",
        )


class _Drive:
    def __init__(
        self,
        models: Sequence[str],
        demand: Demand,
        cluster: Cluster,
        surveyed: Survey,
        cache: Cache,
        reporter: FleetReporter,
        variables: Mapping[str, str],
        words: tuple[str, ...],
        verify: int | None,
        busy_s: float,
        patience_s: float,
    ) -> None:
        self._specs = {model: ModelSpec.read(model) for model in models}
        self._demand, self._cluster, self._cache, self._reporter = demand, cluster, cache, reporter
        self._variables, self._words, self._survey = variables, words, surveyed
        self._busy_s, self._patience_s = busy_s, patience_s
        self._members = {member.node.name: member for member in surveyed.members}
        self._agents = {name: member.agent for name, member in self._members.items()}
        self._started = dict.fromkeys(self._members, 1)
        self._running: dict[Call, tuple[Task, float]] = {}
        self._later: list[tuple[float, Task]] = []
        self._silent_since: dict[str, float] = {}
        """Node: since when the cache does not answer it, or us when it has ended."""
        known, prefer = self._known()
        self._board = Board(surveyed.groups, models, verify=verify, prefer=prefer)
        for host, model, times in known:
            self._board.measured(host, model, times)

    def run(self) -> FleetResult:
        began = time.monotonic()
        try:
            while True:
                for task in self._board.begin():
                    self._start(task)
                if not self._running and not self._later:
                    break
                self._cluster.require_head()
                self._wait()
                self._reporter.now(self._now())
        finally:
            for agent in self._agents.values():
                agent.kill()
        return FleetResult(
            standings=tuple(self._board.standings()),
            given_up=self._board.given_up(),
            unusable=self._survey.unusable,
            seconds=time.monotonic() - began,
        )

    def _known(self) -> tuple[list[tuple[str, str, Mapping[str, float]]], dict[tuple[Kin, str], str]]:
        """What earlier runs left: who has most of a model goes on with its calibration, the others are compared."""
        known: list[tuple[str, str, Mapping[str, float]]] = []
        prefer: dict[tuple[Kin, str], str] = {}
        for kin, names in self._survey.groups.items():
            hosts = [self._members[name].host for name in names]
            by_identifier = {host.identifier: name for host, name in zip(hosts, names, strict=True)}
            for model, spec in self._specs.items():
                times = times_by_host(self._cache, spec, hosts, self._demand)
                if not times:
                    continue
                first = max(times, key=lambda host: (len(times[host]), host))
                prefer[kin, model] = by_identifier[first]
                known += [
                    (by_identifier[host], model, of_host)
                    for host, of_host in times.items()
                    if host != first and of_host
                ]
        return known, prefer

    def _start(self, task: Task) -> None:
        agent = self._agents[task.host]
        match task:
            case Calibrate(model=model):
                call = agent.call("calibrate", model, self._demand, self._words)
            case SpotCheck(model=model, labels=labels):
                forced = replace(self._demand, backends=labels)
                depth = ["--full"] if self._launched_whole(task) else []
                call = agent.call(
                    "run", ["calibrate", model, *forced.options(), *self._words, *depth, "--rounds", "1", "--no-probe"]
                )
        self._running[call] = task, time.monotonic()

    def _launched_whole(self, task: SpotCheck) -> bool:
        """Whether the two best were launched on the whole model; of a large one, layers are compared with layers."""
        times = self._times(task.of, task.model)
        return all(label in times for label in task.labels)

    def _wait(self) -> None:
        now = time.monotonic()
        due = [task for at, task in self._later if at <= now]
        self._later = [(at, task) for at, task in self._later if at > now]
        for task in due:
            self._board.stopped(task)
        if due:
            return
        if not self._running:
            time.sleep(min(LOOK_S, max(0.0, self._later[0][0] - now)))
            return
        for call in self._cluster.ended(list(self._running), LOOK_S):
            task, began = self._running.pop(call)
            how = self._came_of(task, call)
            self._reporter.came(Came(task=task, how=how, seconds=time.monotonic() - began))

    def _came_of(self, task: Task, call: Call) -> str:
        """Tell the board how a task ended; returns how it is said."""
        try:
            ended: Ended = self._cluster.result(call)
        except Lost as error:
            return self._lost(task, str(error))
        except Broken as error:
            return self._failed(task, str(error), error.code)
        return self._measured(task, ended.best) if ended.code == 0 else self._failed(task, ended.reason, ended.code)

    def _failed(self, task: Task, why: str, code: int = 1) -> str:
        """A task ended with an error, which passes by itself or does not."""
        if code == DeviceBusy.exit_code:
            return self._later_again(task, why)
        if code in PASSING:
            return self._without_cache(task, why)
        self._board.failed(task, why)
        return why

    def _measured(self, task: Task, best: Sequence[str]) -> str:
        try:
            times = self._times(task.host, task.model)
        except CacheError as error:
            if error.exit_code not in PASSING:
                raise
            return self._failed(task, error.message, error.exit_code)
        self._silent_since.pop(task.host, None)
        if isinstance(task, SpotCheck):
            self._board.measured(task.host, task.model, times)
            return "measured"
        if not best:
            return self._failed(task, "it ended without an answer")
        self._board.measured(task.host, task.model, times, best=best)
        return f"measured: {best[0]}"

    def _lost(self, task: Task, why: str) -> str:
        """Its agent ended: another is started where the node lives, until that was tried often enough."""
        name = task.host
        member = self._members[name]
        alive = any(node.node_id == member.node.node_id for node in self._cluster.nodes())
        if alive and self._started[name] < AGENTS:
            self._started[name] += 1
            self._agents[name] = self._cluster.agent(member.node, self._variables)
            self._board.stopped(task)
            self._reporter.said(f"{name}: what ran there ended and begins again ({why})")
            return "begins again"
        reason = "the node died" if not alive else f"what runs there ends again and again: {why}"
        self._board.lost(name, reason)
        self._reporter.said(f"{name} takes part no more: {reason}")
        return reason

    def _later_again(self, task: Task, why: str) -> str:
        self._later.append((time.monotonic() + self._busy_s, task))
        return f"again in {self._busy_s:g} s: {why}"

    def _without_cache(self, task: Task, why: str) -> str:
        """The cache did not answer: it is tried again for PATIENCE_S.

        Raises:
            CacheError: it does not answer here either.
        """
        now = time.monotonic()
        if now - self._silent_since.setdefault(task.host, now) < self._patience_s:
            return self._later_again(task, why)
        self._cache.token()
        self._board.lost(task.host, why)
        self._reporter.said(f"{task.host} takes part no more: {why}")
        return why

    def _times(self, host: str, model: str) -> Mapping[str, float]:
        there = self._members[host].host
        return times_by_host(self._cache, self._specs[model], [there], self._demand).get(there.identifier, {})

    def _now(self) -> Now:
        asked = [(task, began, self._agents[task.host].call("now")) for task, began in self._running.values()]
        calibrations, checks = self._board.left
        return Now(
            doing=tuple(
                Doing(node=task.host, task=task, now=self._told(call), since_s=time.monotonic() - began)
                for task, began, call in asked
            ),
            calibrations_left=calibrations,
            checks_left=checks,
        )

    def _told(self, call: Call) -> str:
        try:
            return str(self._cluster.result(call, LOOK_S))
        except (Lost, Broken, TimeoutError):
            return ""
