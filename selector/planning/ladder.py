"""The ladder of a plan: its rungs as they are launched, and what is believed of the candidates before."""

import dataclasses
from collections.abc import Mapping
from functools import partial

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Reporter
from calibration.race.ladder.ascent import Ascent
from calibration.race.ladder.beliefs import Beliefs
from calibration.race.ladder.contest import FINALISTS
from calibration.race.ladder.depth import Depth, conversions
from calibration.race.ladder.position import Position
from calibration.workload import Workload
from selector.demand.objective import Objective
from selector.planning.events import CalibrationEvent, Reach
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
        ArtifactError: the store cannot be read.
        ModelError: the config cannot be read any more.
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


def reaches_of(
    position: Position, ascent: Ascent, depths: tuple[Depth, ...], store: ArtifactStore
) -> tuple[Reach, ...]:
    """What each rung will probably launch from a position on.

    Raises:
        ArtifactError: the store cannot be read.
    """
    first = {label: position.first_rung(label) for label in position.untried}
    reaches = []
    for depth in depths:
        beginning = [label for label, rung in first.items() if rung == depth.rung]
        able = sorted(s for (_, rung), s in position.seconds.items() if rung == depth.rung)
        climbing = 0 if beginning or not able or depth.rung != position.target else FINALISTS * len(position.groups)
        count = len(beginning) or min(climbing, len(able))
        launches_s = sum(position.seconds[label, depth.rung] for label in beginning)
        launches_s += climbing and count * able[len(able) // 2]
        lacking = conversions(depth, [ascent.specs[label] for label in beginning], store)
        written = sum(expected.bytes for expected in lacking.values())
        written += depth.checkpoint.bytes if depth.checkpoint and count else 0
        reaches.append(
            Reach(
                rung=depth.rung,
                candidates=count,
                at_most=not beginning,
                seconds=launches_s + (position.opening_s.get(depth.rung, 0.0) if count else 0.0),
                bytes=written,
                refused={label: why for (label, rung), why in ascent.refused.items() if rung == depth.rung},
            )
        )
    return tuple(reaches)


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
