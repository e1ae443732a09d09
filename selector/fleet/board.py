"""Who does what next: one host of a group calibrates a model, and the others look whether that holds for them.

Nothing here knows of Ray, a clock or a cache: what was measured is told, and the tasks that can begin are asked for.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from selector.evidence.launch_times import candidate_of
from selector.evidence.likeness import Likeness, likenesses
from selector.fleet.groups import Kin
from selector.fleet.tasks import Calibrate, SpotCheck, Standing, Task

VERIFY: Final = 8
"""On so many models a host is compared with its group, unless more is asked for: what makes a host slower than others
of its kind (power, heat, memory channels, neighbours) does so with every model."""
TRIES: Final = 2
"""On so many hosts of a group a model may fail before it is given up there."""


class Board:
    """The tasks of a fleet: asked which can begin, told what came of them."""

    def __init__(
        self,
        groups: Mapping[Kin, Sequence[str]],
        models: Sequence[str],
        *,
        verify: int | None = VERIFY,
        prefer: Mapping[tuple[Kin, str], str] | None = None,
    ) -> None:
        """Args:
        verify: on how many models each host is compared with its group; None: on all.
        prefer: the host of a group that calibrates a model if it can, since it has begun: a calibration goes on from
            what is in the cache.
        """
        wanted: dict[Kin, dict[str, str]] = {}
        for (kin, model), host in (prefer or {}).items():
            wanted.setdefault(kin, {})[model] = host
        self._groups = [
            _Group(kin, tuple(hosts), tuple(models), verify, wanted.get(kin, {})) for kin, hosts in groups.items()
        ]
        self._of = {host: group for group in self._groups for host in group.hosts}
        self._stirred = dict.fromkeys(self._groups)
        """Groups of which something was told since `begin`."""

    def begin(self) -> list[Task]:
        """The tasks that can begin now, one for each idle host that has something to do; they count as begun."""
        stirred, self._stirred = self._stirred, {}
        return [task for group in stirred for task in group.begin()]

    def measured(self, host: str, model: str, times: Mapping[str, float], *, best: Sequence[str] | None = None) -> None:
        """Told of every measurement, now or earlier.

        Args:
            times: candidate: seconds; of the group's two best where it was a spot check.
            best: the two best, where the model was calibrated.
        """
        self._told_of(host).measured(host, model, times, best)

    def failed(self, task: Task, reason: str) -> None:
        """A task came to nothing, and will not on this host."""
        self._told_of(task.host).failed(task, reason)

    def stopped(self, task: Task) -> None:
        """A task ended without its fault: the same host, or another one, may begin it again."""
        self._told_of(task.host).stopped(task)

    def lost(self, host: str, reason: str) -> None:
        """A host takes no more tasks; others of its group take over."""
        self._told_of(host).lost(host, reason)

    def standings(self) -> list[Standing]:
        """Of every host."""
        return [standing for group in self._groups for standing in group.standings()]

    def given_up(self) -> dict[Kin, dict[str, str]]:
        """Models without an answer in a group, and why."""
        return {group.kin: dict(group.given_up) for group in self._groups if group.given_up}

    @property
    def left(self) -> tuple[int, int]:
        """How many calibrations and how many spot checks are still to be done, as far as it can be known now."""
        lefts = [group.left() for group in self._groups]
        return sum(calibrations for calibrations, _ in lefts), sum(checks for _, checks in lefts)

    def _told_of(self, host: str) -> "_Group":
        group = self._of[host]
        self._stirred[group] = None
        return group


class _Group:
    """The tasks of hosts that are alike."""

    def __init__(
        self,
        kin: Kin,
        hosts: tuple[str, ...],
        models: tuple[str, ...],
        verify: int | None,
        prefer: Mapping[str, str],
    ) -> None:
        self.kin, self.hosts, self.models = kin, hosts, models
        self._prefer = {model: host for model, host in prefer.items() if host in hosts}
        self.given_up: dict[str, str] = {}
        self._open = deque(models)
        """Models that nobody calibrates or has calibrated for the group."""
        self._leader: dict[str, str] = {}
        self._best: dict[str, tuple[str, ...]] = {}
        self._own: dict[str, dict[str, None]] = {host: {} for host in hosts}
        """Host: the models that were calibrated on it, in their order."""
        self._times: dict[str, dict[str, dict[str, float]]] = {host: {} for host in hosts}
        self._working: dict[str, Task] = {}
        self._failed: dict[str, dict[str, str]] = {}
        self._gone: dict[str, str] = {}
        self._likeness: dict[str, Likeness] = {}
        self._judged = False
        self._awake = dict.fromkeys(hosts)
        """Hosts that may have something to do; the others wait for what they wait for."""
        count = len(models) if verify is None else min(verify, len(models))
        # Neighbours begin where the last one ended, so that all models are compared equally often.
        self._duties = {
            host: deque(models[(place * count + step) % len(models)] for step in range(count))
            for place, host in enumerate(hosts)
        }
        self._obliged: dict[str, list[str]] = {model: [] for model in models}
        """Model: the hosts that are to be compared on it."""
        for host, duties in self._duties.items():
            for model in duties:
                self._obliged[model].append(host)

    def begin(self) -> Iterator[Task]:
        while self._awake:
            awake, self._awake = self._awake, {}
            for host in awake:
                if host in self._gone or host in self._working:
                    continue
                task = self._task_of(host)
                if task is not None:
                    self._working[host] = task
                    yield task
            if not self._working and not self._judged:
                self._judge()
                self._awake = dict.fromkeys(self._present())

    def measured(self, host: str, model: str, times: Mapping[str, float], best: Sequence[str] | None) -> None:
        task = self._working.get(host)
        self._free(host)
        if best is not None:
            self._own[host][model] = None
            if model not in self._leader:
                self._leader[model], self._best[model] = host, tuple(best)
                if model in self._open:
                    self._open.remove(model)
                self._awake |= dict.fromkeys(other for other in self._obliged[model] if other not in self._working)
        self._times[host].setdefault(model, {}).update(times)
        if isinstance(task, SpotCheck):
            self._duties[host].remove(task.model)

    def failed(self, task: Task, reason: str) -> None:
        self._free(task.host)
        self._prefer.pop(task.model, None)
        self._failed.setdefault(task.host, {})[task.model] = reason
        if isinstance(task, SpotCheck):
            self._duties[task.host].remove(task.model)
        elif task.model not in self._leader and task.model not in self._open:
            tries = sum(task.model in failed for failed in self._failed.values())
            if tries >= min(TRIES, len(self.hosts) - len(self._gone)):
                self.given_up[task.model] = reason
            else:
                self._reopen(task.model)

    def stopped(self, task: Task) -> None:
        self._free(task.host)
        if isinstance(task, Calibrate) and task.model not in self._leader and task.model not in self._open:
            self._reopen(task.model)

    def lost(self, host: str, reason: str) -> None:
        task = self._working.pop(host, None)
        self._gone[host] = reason
        self._prefer = {model: other for model, other in self._prefer.items() if other != host}
        self._awake |= dict.fromkeys(other for other in self._present() if other not in self._working)
        if task is not None:
            self.stopped(task)
        self._awake.pop(host, None)
        if len(self._gone) == len(self.hosts):
            self.given_up |= dict.fromkeys(self._open, reason)
            self._open.clear()

    def standings(self) -> list[Standing]:
        return [
            Standing(
                host=host,
                kin=self.kin,
                calibrated=tuple(self._own[host]),
                checked=tuple(model for model in self._times[host] if model not in self._own[host]),
                likeness=self._likeness.get(host),
                failed=self._failed.get(host, {}),
                gone=self._gone.get(host, ""),
            )
            for host in self.hosts
        ]

    def left(self) -> tuple[int, int]:
        own = sum(len(self._missing(host)) for host in self._present() if self._differs(host))
        checks = sum(len(self._duties[host]) for host in self._present())
        working = [task for task in self._working.values() if isinstance(task, Calibrate)]
        return len(self._open) + len(working) + own, checks if len(self.hosts) > 1 else 0

    def _task_of(self, host: str) -> Task | None:
        failed = self._failed.get(host, {})
        if self._differs(host):
            missing = self._missing(host)
            return Calibrate(host=host, model=missing[0]) if missing else None
        for model in self._open:
            if model not in failed and self._prefer.get(model, host) == host:
                self._open.remove(model)
                return Calibrate(host=host, model=model)
        return self._check_of(host)

    def _check_of(self, host: str) -> SpotCheck | None:
        duties = self._duties[host]
        for _ in range(len(duties)):
            model = duties[0]
            leader = self._leader.get(model)
            if model in self.given_up or leader == host or (leader and self._has_launched(host, model)):
                duties.popleft()  # the others are compared with it, or it was measured already
            elif leader is None:
                duties.rotate(-1)
            else:
                return SpotCheck(host=host, model=model, labels=self._best[model], of=leader)
        return None

    def _has_launched(self, host: str, model: str) -> bool:
        """Whether both of the group's best were launched there; a driver that was killed may have left one of them."""
        labels = {candidate_of(name) for name in self._times[host].get(model, ())}
        return labels.issuperset(self._best[model])

    def _judge(self) -> None:
        """Compare the hosts; models that one calibrated which is not like the others are calibrated again, for them."""
        self._judged = True
        self._likeness = likenesses(self._times, self.kin.kind)
        alike = [host for host in self._present() if not self._differs(host)]
        if not alike:
            return
        for model, leader in list(self._leader.items()):
            if self._differs(leader):
                others = [host for host in alike if model in self._own[host]]
                if others:
                    self._leader[model] = others[0]
                else:
                    del self._leader[model], self._best[model]
                    self._reopen(model)

    def _free(self, host: str) -> None:
        """It works no more, and may have something else to do."""
        self._working.pop(host, None)
        self._awake[host] = None

    def _reopen(self, model: str) -> None:
        self._open.append(model)
        self._awake |= dict.fromkeys(host for host in self._present() if host not in self._working)

    def _differs(self, host: str) -> bool:
        likeness = self._likeness.get(host)
        return likeness is not None and not likeness.alike

    def _missing(self, host: str) -> list[str]:
        failed = self._failed.get(host, {})
        return [
            model
            for model in self.models
            if model not in self._own[host] and model not in failed and model not in self.given_up
        ]

    def _present(self) -> list[str]:
        return [host for host in self.hosts if host not in self._gone]
