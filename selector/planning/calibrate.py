"""calibrate(): from a model's name to weights, a race of the candidates, and the answers that follow from it."""

import dataclasses
from pathlib import Path
from typing import Unpack

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.errors import IllegalBackend, NoLegalBackend, UsageError
from calibration.events import Reporter, Silent
from calibration.launch.workshop import Workshop
from calibration.load.use import Use
from calibration.measurement import Measurement, Served
from calibration.race.bounds import SURE, Bounds
from calibration.race.ladder.beliefs import Noise
from calibration.race.ladder.climb import climb
from calibration.race.rounds.runner import calibrate as race_candidates
from calibration.race.tally import Tally
from calibration.supervision.device_lock import device_lock
from calibration.supervision.launch_spec import Limits
from selector.answer import Selection, Source
from selector.choice.refusals import explain_command
from selector.demand.demand import Demand, DemandOptions
from selector.host.spec import HostSpec
from selector.planning.calibration import Calibration, Unanswered
from selector.planning.events import CalibrationEvent, LadderPlanned, Planned, PreparationsKnown
from selector.planning.ladder import beliefs_for, deciding_workloads, depths_of, reaches_of
from selector.planning.plan import Plan, plan
from selector.planning.preparations import preparations
from selector.planning.probing import probe_once
from selector.planning.served import serve_loads
from selector.planning.subject import memory_limit_bytes, reference_for, subject_of
from selector.selection import choose

NOTHING_STATIC = Tally(
    calibration_id="",
    outcomes=(),
    fresh=frozenset(),
    agreements={},
    out={},
    ended="no batch",
    unmeasured=(),
    check_s=0.0,
    seconds=0.0,
)
"""Of a calibration for loads alone."""


def calibrate(
    model: str | Path,
    demand: Demand | None = None,
    *,
    rounds: int = 3,
    sure: float = SURE,
    full: bool = False,
    budget_s: float | None = None,
    random_weights: bool = False,
    again: bool = False,
    probe: bool = False,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    store: ArtifactStore | None = None,
    reporter: Reporter[CalibrationEvent] | None = None,
    limits: Limits | None = None,
    calibration_id: str = "",
    **options: Unpack[DemandOptions],
) -> Calibration:
    """Time the candidates for `model` on this host until the answer is sure, check their outputs, and keep the samples.

    Candidates climb a ladder: from what is predicted to a few layers, and from there to the whole model. A candidate
    whose times are known from another model of the same shape is checked and not timed. For a load they are started as
    servers and put under it, in rounds.

    Args:
        model: a folder, a hub id or `shape:NAME`.
        demand: what is wanted; or, more briefly, `options`: see DemandOptions. The cells bracket its workloads.
        rounds: launches of a candidate at most, on a ladder: on each of its rungs.
        sure: it is over once the pick is within 3 % of the best with this probability, for every workload and load.
        full: race every candidate on the whole model in rounds instead, until it is slower than another beyond doubt;
            under a load all of them take all rounds.
        budget_s: seconds for everything; the tally names what was not measured by then.
        random_weights: time random weights of the model's shape (always so for `shape:NAME`).
        again: measure anew what is already in the cache.
        probe: probe the machine first where the cache has no probe of it, as the command does; it counts to the budget.
        cache: an open cache, a path or a SQLAlchemy URL.
        calibration_id: of a calibration on a ladder whose other candidates are raced elsewhere meanwhile.

    Raises:
        ModelError, UsageError, CacheError, ArtifactError: with the value and the mend.
        IllegalBackend: every backend that `backends` names is refused.
        NoLegalBackend: every backend is refused.
        DeviceBusy: another calibration holds the device, or a server runs on it.
    """
    if rounds < 1:
        raise UsageError(f"a calibration needs 1 round or more; found {rounds}")
    if not 0.5 <= sure < 1.0:
        raise UsageError(f"a probability to be sure with is at least 0.5 and below 1; found {sure:g}")
    reporter = reporter or Silent()
    planned = plan(model, demand, host=host, **options)
    planned.host.require_here("a calibration")
    reporter.report(Planned(plan=planned))
    if not planned.launch_specs:
        raise _nothing_to_measure(planned)
    _refuse_long_traces(planned, budget_s)
    artifacts = store or ArtifactStore()
    if full and planned.cells:
        made = preparations(
            planned.spec,
            planned.launch_specs,
            artifacts,
            random_weights=random_weights,
            memory_bytes=memory_limit_bytes(planned.host),
        )
        reporter.report(PreparationsKnown(preparations=made))
    bounds = Bounds(rounds=rounds, sure=sure)
    opened = cache if isinstance(cache, Cache) else Cache.open(cache)
    try:
        if probe:
            probed_s = probe_once(planned.host, opened, reporter, budget_s=budget_s)
            budget_s = None if budget_s is None else budget_s - probed_s
        bounds = dataclasses.replace(bounds, budget_s=budget_s)
        workshop = Workshop(cache=opened, store=artifacts, reporter=reporter, limits=limits or Limits())
        with device_lock(planned.host.device.name):
            if not planned.cells:
                tally = NOTHING_STATIC
            elif full:
                tally = race_candidates(
                    planned.launch_specs,
                    subject_of(planned, artifacts, reporter, random_weights=random_weights),
                    planned.cells,
                    workshop,
                    reference=reference_for(planned),
                    bounds=bounds,
                    again=again,
                )
            else:
                depths = depths_of(planned, artifacts, reporter, random_weights=random_weights)
                tally = climb(
                    planned.launch_specs,
                    depths,
                    deciding_workloads(planned),
                    planned.cells,
                    workshop,
                    beliefs=beliefs_for(planned, depths, opened),
                    noise=Noise.of(planned.host.device.kind),
                    bounds=bounds,
                    again=again,
                    calibration_id=calibration_id,
                    foretell=lambda position, ascent: reporter.report(
                        LadderPlanned(reaches=reaches_of(position, ascent, depths, artifacts))
                    ),
                )
            served = None
            if planned.demand.loads:
                left_s = None if budget_s is None else max(0.0, budget_s - tally.seconds)
                served = serve_loads(
                    planned,
                    opened,
                    artifacts,
                    reporter,
                    bounds=dataclasses.replace(bounds, budget_s=left_s),
                    random_weights=random_weights,
                    again=again,
                    full=full,
                    limits=limits,
                )
        return _answered(Calibration(plan=planned, tally=tally, served=served, cache=opened.location), opened)
    finally:
        if opened is not cache:
            opened.close()


def _refuse_long_traces(planned: Plan, budget_s: float | None) -> None:
    """Raise UsageError where the budget does not hold a trace: each candidate would have another part of it."""
    if budget_s is not None and (long := [load for load in planned.demand.loads if load.least_s > budget_s]):
        raise UsageError(
            f"a budget of {budget_s:g} s does not hold {long[0].title}",
            "give it more seconds, or replay a part of the trace: --trace-seconds N",
        )


def _answered(calibration: Calibration, cache: Cache) -> Calibration:
    """The calibration with its selections."""
    if not any(isinstance(outcome, Measurement | Served) for outcome in calibration.outcomes):
        return calibration
    selections, unanswered = list[Selection](), list[Unanswered]()
    uses: tuple[Use, ...] = (*calibration.plan.workloads, *calibration.plan.demand.loads)
    for use in uses:
        try:
            selections.append(_selection(calibration.plan, use, cache))
        except (IllegalBackend, NoLegalBackend) as reason:
            unanswered.append(Unanswered(use=use, reason=reason))
    return dataclasses.replace(calibration, selections=tuple(selections), unanswered=tuple(unanswered))


def _selection(planned: Plan, use: Use, cache: Cache) -> Selection:
    """The best of all candidates, since launches of backends that were not named count, too.

    If none of those was measured, the best of the named ones: a variant that runs only on request is a candidate only
    where it is named.
    """
    named = planned.demand.for_one(use)
    of_all = choose(planned.spec.name, dataclasses.replace(named, backends=()), cache=cache, host=planned.host)
    if of_all.source in {Source.PREDICTED, Source.RULES} and named.forced:
        return choose(planned.spec.name, named, cache=cache, host=planned.host)
    return of_all


def _nothing_to_measure(planned: Plan) -> IllegalBackend | NoLegalBackend:
    lines = [f"  {v.candidate.label}: {r.text}" for v in planned.refused for r in v.reasons]
    lines += [f"  {v.candidate.label}: left out, {v.left_out}" for v in planned.left_out]
    kind = IllegalBackend if planned.demand.forced else NoLegalBackend
    return kind(
        f"no backend can be calibrated for {planned.spec.name} here\n" + "\n".join(lines),
        f"see {explain_command(planned.spec.name, planned.demand)}",
    )
