"""calibrate_stale(): measure the stale candidates that could change an answer, beside the picks of today."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Reporter
from calibration.load.load import Load
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import Limits
from selector import context as contexts
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.planning.calibrate import calibrate
from selector.planning.calibration import Calibration
from selector.planning.events import CalibrationEvent
from selector.upkeep.outdated import StaleModel, stale_models
from selector.upkeep.served import StaleServed, stale_served

MakeReporter = Callable[[bool], AbstractContextManager[Reporter[CalibrationEvent]]]
"""Opens the reporter of one calibration; is told whether its weights are random."""


def calibrate_stale(
    cache: Cache,
    *,
    reporter: MakeReporter,
    models: tuple[str, ...] = (),
    host: HostSpec | None = None,
    store: ArtifactStore | None = None,
    rounds: int = 3,
    budget_s: float | None = None,
    trust_remote_code: bool = False,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Calibration]:
    """Calibrate each model that has stale candidates which could change an answer; gives each when it is measured.

    They are launched anew together with the picks of today, in the same rounds, so that their times compare. Models of
    one shape share their times: what was measured for the first of them is not measured again for the next. What was
    stale under load comes last, a calibration for each load.

    Args:
        models: only these, named as they were when they were measured; empty: all.
        budget_s: seconds for all of them together.

    Raises:
        As calibrate() does; the calibrations before are kept.
    """
    here = host or contexts.DEFAULT.host()
    deadline = Deadline(None if budget_s is None else clock() + budget_s, clock)
    again = _Again(
        cache=cache,
        reporter=reporter,
        host=here,
        store=store,
        rounds=rounds,
        trust_remote_code=trust_remote_code,
        limits=limits,
        deadline=deadline,
    )
    for name in dict.fromkeys(stale.model for stale in stale_models(cache, models=models, host=here, store=store)):
        if deadline.is_past():
            return
        for stale in _worth_measuring(cache, name, here, store):
            yield again.batches(stale)
    done = set[tuple[str, int, Load]]()
    while not deadline.is_past() and (due := _next_load(cache, models, here, done, deadline.left_s())):
        done.add((due.model, due.devices, due.load))
        yield again.load(due)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """How what is stale is measured again."""

    cache: Cache
    reporter: MakeReporter
    host: HostSpec
    store: ArtifactStore | None
    rounds: int
    trust_remote_code: bool
    limits: Limits | None
    deadline: Deadline

    def batches(self, stale: StaleModel) -> Calibration:
        """Race the candidates on the whole model, in rounds."""
        demand = stale.demand(gpu=self.host.device.kind != "cpu")
        return self._calibrate(stale.model, demand, full=True)

    def load(self, stale: StaleServed) -> Calibration:
        """Put the candidates under the load."""
        return self._calibrate(stale.model, stale.demand, full=False)

    def _calibrate(self, model: str, demand: Demand, *, full: bool) -> Calibration:
        random_weights = not contexts.DEFAULT.model(model).has_weights
        with self.reporter(random_weights) as told:
            return calibrate(
                model,
                dataclasses.replace(demand, trust_remote_code=self.trust_remote_code),
                rounds=self.rounds,
                full=full,
                budget_s=self.deadline.left_s(),
                random_weights=random_weights,
                again=True,
                cache=self.cache,
                host=self.host,
                store=self.store,
                reporter=told,
                limits=self.limits,
            )


def _worth_measuring(cache: Cache, name: str, host: HostSpec, store: ArtifactStore | None) -> Iterator[StaleModel]:
    """What is stale of a model now, for each number of devices: a model of its shape may have been measured since.

    They are all raced on the whole model, those of the rows on layers with them.
    """
    found = [stale for stale in stale_models(cache, models=(name,), host=host, store=store) if stale.mattering]
    by_devices: dict[int, list[StaleModel]] = {}
    for stale in found:
        by_devices.setdefault(stale.identity.device_count, []).append(stale)
    for first, *others in by_devices.values():
        candidates = {c.label: c for other in (first, *others) for c in other.mattering}
        leaders = {label: s for other in (first, *others) for label, s in other.leaders.items()}
        yield dataclasses.replace(first, candidates=tuple(candidates.values()), leaders=leaders)


def _next_load(
    cache: Cache,
    models: tuple[str, ...],
    host: HostSpec,
    done: set[tuple[str, int, Load]],
    left_s: float | None,
) -> StaleServed | None:
    """Of the first model that has one the load that most launches took: the levels around it are measured with it.

    Args:
        left_s: a trace that lasts longer is left out.
    """
    stale = [one for one in stale_served(cache, models=models, host=host) if one.mattering and one.kept]
    stale = [one for one in stale if left_s is None or one.load.least_s < left_s]
    due = [one for one in stale if (one.model, one.devices, one.load) not in done]
    return max((one for one in due if one.model == due[0].model), key=lambda one: one.launches, default=None)
