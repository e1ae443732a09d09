"""calibrate_stale(): measure the stale candidates that could change an answer, beside the picks of today."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Reporter
from calibration.supervision.launch_spec import Limits
from selector import context as contexts
from selector.host.spec import HostSpec
from selector.planning.calibrate import Calibration, calibrate
from selector.planning.events import CalibrationEvent
from selector.upkeep.outdated import StaleModel, stale_models


def calibrate_stale(
    cache: Cache,
    *,
    reporter: Callable[[bool], AbstractContextManager[Reporter[CalibrationEvent]]],
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
    one shape share their times: what was measured for the first of them is not measured again for the next.

    Args:
        reporter: opens the reporter of one calibration; is told whether its weights are random.
        models: only these, named as they were when they were measured; empty: all.
        budget_s: seconds for all of them together.

    Raises:
        As calibrate() does; the calibrations before are kept.
    """
    here = host or contexts.DEFAULT.host()
    began = clock()
    for name in dict.fromkeys(stale.model for stale in stale_models(cache, models=models, host=here, store=store)):
        left_s = None if budget_s is None else budget_s - (clock() - began)
        if left_s is not None and left_s <= 0:
            return
        for stale in _worth_measuring(cache, name, here, store):
            demand = stale.demand(gpu=here.device.kind != "cpu")
            spec = contexts.DEFAULT.model(name)
            random_weights = not spec.has_weights
            with reporter(random_weights) as told:
                yield calibrate(
                    name,
                    dataclasses.replace(demand, trust_remote_code=trust_remote_code),
                    rounds=rounds,
                    full=True,
                    budget_s=left_s,
                    random_weights=random_weights,
                    again=True,
                    cache=cache,
                    host=here,
                    store=store,
                    reporter=told,
                    limits=limits,
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
