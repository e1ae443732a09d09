"""The ladder of a plan: its rungs as they are launched, and what is believed of the candidates before."""

import dataclasses
from collections.abc import Mapping
from functools import partial

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Reporter
from calibration.race.beliefs import Beliefs
from calibration.race.depth import Depth
from calibration.workload import Workload
from selector.objective import Objective
from selector.planning.events import CalibrationEvent
from selector.planning.plan import Plan
from selector.planning.subject import memory_limit_bytes, reference_for, subject_at
from selector.planning.weights import launchable_rungs, weights_of
from selector.predict.beliefs import beliefs_of

FIRST_TOKEN: Mapping[Objective, int] = {Objective.TTFT: 1}
"""Output tokens of the workloads that a race decides for, where they are not all that were asked for."""


def depths_of(
    planned: Plan, store: ArtifactStore, reporter: Reporter[CalibrationEvent], *, random_weights: bool
) -> tuple[Depth, ...]:
    """The rungs of a plan, the shallow ones first and the whole model last.

    Raises:
        ModelError: the config cannot be read any more.
        ArtifactError: the store cannot be read.
    """
    depths = []
    for rung in launchable_rungs(planned.spec, random_weights=random_weights):
        weights = weights_of(planned.spec, rung, random_weights=random_weights)
        depths.append(
            Depth(
                rung=rung,
                identity=dataclasses.replace(planned.identity, cut=rung.cut),
                original=weights.original,
                subject=partial(subject_at, planned, rung, store, reporter, random_weights=random_weights),
                memory_bytes=memory_limit_bytes(planned.host),
                reference=reference_for(planned),
                checkpoint=weights.lacking(store),
            )
        )
    return tuple(depths)


def beliefs_for(planned: Plan, depths: tuple[Depth, ...], cache: Cache) -> Beliefs | None:
    """What is believed of the candidates' times; None where nothing is, or where times are not what decides.

    Raises:
        CacheError: the cache cannot be read.
    """
    if planned.demand.objective is Objective.MEMORY:
        return None
    labels = [spec.label for spec in planned.launch_specs]
    return beliefs_of(planned.spec, planned.host, labels, [d.rung for d in depths], planned.cells, cache=cache)


def deciding_workloads(planned: Plan) -> tuple[Workload, ...]:
    """The workloads whose times decide the race."""
    output = FIRST_TOKEN.get(planned.demand.objective)
    workloads = (w if output is None else _with_output(w, output) for w in planned.workloads)
    return tuple(dict.fromkeys(workloads))


def _with_output(workload: Workload, tokens: int) -> Workload:
    return Workload(prompt_tokens=workload.prompt_tokens, output_tokens=tokens, batch=workload.batch)
