"""Serves the candidates of several models in turns, each by the calibration of loads, within one budget."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from benchmarks.served.recorded import never_served
from benchmarks.served.task import Task
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Reporter
from calibration.load.run import Measuring
from calibration.measurement import Failure, Served, Unserved
from calibration.race.bounds import Bounds
from calibration.race.known import resumable
from calibration.served.tally import ServedTally
from calibration.supervision.deadline import Deadline
from calibration.supervision.device_lock import device_lock
from selector.planning.events import CalibrationEvent
from selector.planning.served import LOAD_S, serve_loads
from selector.screens.text import plural, seconds

ROUNDS = 2
"""One chooses, the other judges."""
TRIAL_REQUESTS = 1


class Stage(StrEnum):
    """A part of the study, for all models before the next part, so that a budget that ends early leaves something of
    each.
    """

    FIRST = "first round"
    SECOND = "second round"
    """Of those that were served in the first: without it nothing can be judged."""
    REST = "who is left"
    """Whom the first round had no time for."""


_WEIGHTS = {Stage.FIRST: 2.0, Stage.SECOND: 1.0, Stage.REST: 0.01}
"""What a part takes beside the others. To the second round only those come that may be the best; what is left over is
for the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A model in a part of the study."""

    task: Task
    stage: Stage

    @property
    def weight(self) -> float:
        """What it takes beside others: the work of a token grows with the parameters, starting a server hardly does."""
        return math.sqrt(self.task.plan.spec.parameters) * _WEIGHTS[self.stage]


@dataclass(slots=True)
class _Came:
    """What came of a model so far."""

    served: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    cut: bool = True
    """The budget ended before both rounds of those that were served did."""


def turns_of(tasks: Sequence[Task]) -> list[Turn]:
    """All models in a part before the next part."""
    return [Turn(task=task, stage=stage) for stage in Stage for task in tasks]


def share_s(turns: Sequence[Turn], left_s: float | None) -> float | None:
    """Seconds that the first of these turns may take; None: as many as it needs."""
    if left_s is None:
        return None
    return left_s * turns[0].weight / sum(turn.weight for turn in turns)


def measure(
    tasks: Sequence[Task],
    cache: Cache,
    store: ArtifactStore,
    reporter: Reporter[CalibrationEvent],
    deadline: Deadline,
    *,
    requests: int,
    say: Callable[[str], None],
) -> list[str]:
    """Serve what the cache does not have yet.

    Returns:
        What the budget left out, a line each.

    Raises:
        AutobackendError: as serve_loads, or DeviceBusy.
    """
    turns = turns_of(tasks)
    came = {task.plan.spec.name: _Came() for task in tasks}
    for place, turn in enumerate(turns):
        name = turn.task.plan.spec.name
        task = _with(turn.task, came[name].served) if turn.stage is Stage.SECOND else turn.task
        if deadline.is_past() or not task.plan.launch_specs or _is_done(turn, came[name]):
            continue
        tally = _serve(
            task,
            cache,
            store,
            reporter,
            rounds=1 if turn.stage is Stage.FIRST else ROUNDS,
            requests=requests,
            budget_s=share_s(turns[place:], deadline.left_s()),
        )
        came[name].served |= {o.candidate.label for o in tally.outcomes if isinstance(o, Served)}
        came[name].failed |= {o.candidate.label for o in tally.outcomes if isinstance(o, Failure)}
        came[name].cut = turn.stage is Stage.FIRST or tally.ended == "budget"
        launches = sum(isinstance(o, Served) and o.run_id in tally.fresh for o in tally.outcomes)
        say(f"{name}, {turn.stage}: {plural(launches, 'launch')} in {seconds(tally.seconds)}, {tally.ended}")
        for line in _failures(tally):
            say(f"{name}, {line}")
    return [line for task in tasks for line in _missing(task, came[task.plan.spec.name])]


def prepare(
    tasks: Sequence[Task],
    cache: Cache,
    store: ArtifactStore,
    reporter: Reporter[CalibrationEvent],
    *,
    say: Callable[[str], None],
) -> None:
    """Convert and check every candidate and serve it for a moment, so that a budget goes to loads alone.

    Its verdict is kept, and what it reached for a moment is not.

    Raises:
        AutobackendError: as serve_loads, or DeviceBusy.
    """
    for task in tasks:
        planned = task.plan
        checked = resumable(planned.launch_specs, planned.identity, (), cache).agreements
        for spec in planned.launch_specs:
            if spec.label in checked:
                continue
            alone = _with(task, {spec.label})
            with never_served(cache) as trial:
                tally = _serve(alone, trial, store, reporter, rounds=1, requests=TRIAL_REQUESTS, budget_s=None)
            cache.add(*(o for o in tally.outcomes if not isinstance(o, Served | Unserved)))
            for line in _failures(tally) or [f"{spec.label}: ready after {seconds(tally.seconds)}"]:
                say(f"{planned.spec.name}, {line}")


def _serve(
    task: Task,
    cache: Cache,
    store: ArtifactStore,
    reporter: Reporter[CalibrationEvent],
    *,
    rounds: int,
    requests: int,
    budget_s: float | None,
) -> ServedTally:
    with device_lock(task.plan.host.device.name):
        return serve_loads(
            task.plan,
            cache,
            store,
            reporter,
            bounds=Bounds(rounds=rounds, budget_s=budget_s),
            measuring=Measuring(budget_s=LOAD_S, requests=requests),
            only_asked=True,
        )


def _failures(tally: ServedTally) -> list[str]:
    """Of this run."""
    failed = [o for o in tally.outcomes if isinstance(o, Failure) and o.run_id in tally.fresh]
    return [f"{one.candidate.label}: {one.kind} ({one.stage}): {one.message}" for one in failed]


def _with(task: Task, labels: set[str]) -> Task:
    """The task with these candidates alone."""
    kept = tuple(spec for spec in task.plan.launch_specs if spec.label in labels)
    return replace(task, plan=replace(task.plan, launch_specs=kept))


def _is_done(turn: Turn, came: _Came) -> bool:
    """Whether nobody is left for the last part."""
    return turn.stage is Stage.REST and not came.cut and not _never_served(turn.task, came)


def _never_served(task: Task, came: _Came) -> list[str]:
    known = came.served | came.failed
    return [spec.label for spec in task.plan.launch_specs if spec.label not in known]


def _missing(task: Task, came: _Came) -> list[str]:
    """What its budget left out."""
    name, never = task.plan.spec.name, _never_served(task, came)
    lines = [f"{name}: never served within the budget: {', '.join(never)}"] if never else []
    return [*lines, f"{name}: the budget ended before the second round did"] if came.cut else lines
