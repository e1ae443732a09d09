"""The loads of a plan: which candidates take them as servers, in which order, and by what they are compared."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.errors import UsageError
from calibration.events import Reporter
from calibration.launch.workshop import Workshop
from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import End, NoPoint, Point, RequestTargets
from calibration.load.trace import Trace
from calibration.load.use import batch_of, slots_of
from calibration.race.bounds import Bounds
from calibration.served.asking import ask_at_once
from calibration.served.place import Hold, Server, Serving
from calibration.served.race import race_served
from calibration.served.recall import recalled
from calibration.served.tally import ServedTally
from calibration.supervision.launch_spec import LaunchSpec, Limits
from selector.context import DEFAULT
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.evidence.ranking import rank
from selector.planning.events import CalibrationEvent
from selector.planning.plan import Plan
from selector.planning.server_process import Servers
from selector.planning.subject import reference_for, subject_of
from selector.question import Question
from selector.served.figures import figures_of

LOAD_S = 600.0
"""A load is measured for so long at most: MLPerf's server scenario takes 600 s at least. Of a trace so long beyond its
own end: for its warm-up, and until a server that fell behind has answered."""
USUAL = Measuring(budget_s=LOAD_S)
MISSED = 1e6
"""Times the value of a launch that misses its targets: whoever meets them comes before, whatever the objective says."""
WRONG = "wrong output as served, as an earlier calibration found: {reason}"


def serve_loads(
    planned: Plan,
    cache: Cache,
    store: ArtifactStore,
    reporter: Reporter[CalibrationEvent],
    *,
    bounds: Bounds,
    random_weights: bool = False,
    again: bool = False,
    full: bool = False,
    limits: Limits | None = None,
    measuring: Measuring | None = None,
    only_asked: bool = False,
) -> ServedTally:
    """Measure the plan's loads against its candidates as servers.

    Args:
        full: all candidates take all rounds.
        measuring: how long each load is measured; by default as long as its figures need. Targets are the demand's.
        only_asked: nothing else: neither other numbers of streams nor the leader with one thread fewer.

    Raises:
        UsageError: random weights are asked for of a model that has its own, or nobody has the requests of a trace.
        ModelError, ArtifactError: the model's weights cannot be had.
        CacheError: the cache cannot be read or written.
    """
    name = planned.spec.name
    if not name.startswith("shape:") and (random_weights or not planned.spec.has_weights):
        raise UsageError(
            f"a load is served with a model's own weights, or of a shape; found none of {name}",
            "name a shape (autobackend shapes), or a model with weights",
        )
    traces = _traces(planned, cache)
    subject, kind = subject_of(planned, store, reporter, random_weights=random_weights), planned.host.device.kind
    loads = tuple(traces[load.trace].load if load.trace else load for load in planned.demand.loads)
    servers = Servers(
        model=planned.spec.name,
        demand=planned.demand,
        cache=cache.address,
        artifacts=store.root,
        limits=limits or Limits(),
    )
    serving = Serving(
        loads=loads,
        hold=hold_of(loads, subject.threads),
        start=servers.start,
        measure=partial(
            _measure,
            demand=planned.demand,
            traces=traces,
            vocab_size=subject.vocab_size,
            on_gpu=kind == "cuda",
            usual=measuring or USUAL,
        ),
        ask=ask_at_once,
        value=partial(value_of, planned.demand),
        fewer_threads=kind == "cpu" and not only_asked,
        full=full,
        levels=not only_asked,
    )
    wrong = {} if again else DEFAULT.known(_question(planned, loads[0], cache)).served().wrong
    tally = race_served(
        in_order(planned, loads[0], cache, again=again),
        subject,
        serving,
        Workshop(cache=cache, store=store, reporter=reporter, limits=limits or Limits()),
        reference=reference_for(planned),
        bounds=bounds,
        again=again,
    )
    labels = [spec.label for spec in planned.launch_specs if spec.label in wrong]
    out = {label: WRONG.format(reason=wrong[label].message) for label in labels}
    return dataclasses.replace(tally, out={**tally.out, **out})


def hold_of(loads: Sequence[Load], threads: int) -> Hold:
    """What a server must hold for any of these loads."""
    return Hold(
        slots=max(map(slots_of, loads)), context_tokens=max(load.context_tokens for load in loads), threads=threads
    )


def in_order(planned: Plan, load: Load, cache: Cache, *, again: bool = False) -> list[LaunchSpec]:
    """The candidates, whoever is best for the nearest static batch first: as measured here, else as predicted.

    Those that fail here with today's versions, or answer wrong as they are served, are left out, unless everything is
    to be measured anew.

    Raises:
        CacheError: the cache cannot be read.
    """
    specs = {spec.label: spec for spec in planned.launch_specs}
    question = _question(planned, load, cache)
    static, known = question.demand, DEFAULT.known(question)
    failing = set() if again else (known.evidence.failed.keys() - known.evidence.outdated) | known.served().wrong.keys()
    able = [label for label in specs if label not in failing]
    records = [known.evidence.measured[label] for label in able if label in known.evidence.measured]
    order = [ranked.candidate.label for ranked in rank(records, static, device_kind=planned.host.device.kind)]
    if prediction := known.predict(able, batch_of(load)):
        order += [row.candidate for row in prediction.predicted]
    return [specs[label] for label in dict.fromkeys((*order, *able)) if label in able]


def _question(planned: Plan, load: Load, cache: Cache) -> Question:
    """What is known of the nearest static batch."""
    objective = Objective.THROUGHPUT if planned.demand.objective is Objective.GOODPUT else planned.demand.objective
    static = dataclasses.replace(planned.demand, workloads=(batch_of(load),), objective=objective)
    return Question(spec=planned.spec, host=planned.host, demand=static, cache=cache)


def value_of(demand: Demand, point: Point, memory_bytes: int) -> float:
    """What a point reached of the objective; less is better."""
    figures = figures_of(point, demand.targets, memory_bytes)
    value = demand.objective.of(figures)
    worst = demand.targets.worst(figures.ttft_p95_s, figures.tpot_p95_s)
    if demand.objective is Objective.GOODPUT or worst <= 1.0:
        return value
    return MISSED * worst


def measuring_of(demand: Demand, trace: Trace | None, left_s: float | None, usual: Measuring = USUAL) -> Measuring:
    """How long a load is measured at most, and for whom it ends.

    Args:
        left_s: of the budget.
        usual: where nothing ends it earlier, of a load that is no trace.
    """
    limit_s = usual.budget_s + (trace.seconds if trace else 0.0)
    return dataclasses.replace(
        usual,
        budget_s=limit_s if left_s is None else min(limit_s, left_s),
        left_s=left_s,
        targets=RequestTargets(ttft_s=demand.ttft_s, tpot_s=demand.tpot_s) if demand.targets else None,
    )


def void_where_cut(taken: Point | NoPoint) -> Point | NoPoint:
    """A point of a trace that the budget ended is void: other candidates were sent more of it."""
    if isinstance(taken, Point) and taken.load.trace and taken.end is End.BUDGET and not taken.void:
        return dataclasses.replace(taken, void="the budget ended before the trace did")
    return taken


def _traces(planned: Plan, cache: Cache) -> dict[str, Trace]:
    """The requests of each trace, by its digest: of its file, or as an earlier launch under it has kept them.

    Raises:
        UsageError: neither is there.
    """
    traces, identity = dict[str, Trace](), planned.identity
    for load in (load for load in planned.demand.loads if load.trace):
        replay = planned.demand.replay_of(load)
        trace = replay.trace if replay else None
        trace = trace or recalled(
            load,
            cache.find_served(
                architecture=identity.architecture,
                quant=identity.quant,
                device=identity.device,
                fingerprint=identity.fingerprint,
            ),
        )
        if trace is None:
            raise UsageError(
                f"the requests of {load.title} are not kept here: no launch was sent all of them",
                "name the trace's file: --trace FILE",
            )
        traces[load.trace] = trace
    return traces


def _measure(
    server: Server,
    load: Load,
    budget_s: float | None,
    *,
    demand: Demand,
    traces: Mapping[str, Trace],
    vocab_size: int,
    on_gpu: bool,
    usual: Measuring,
) -> Point | NoPoint:
    loaded = LoadedServer(
        url=server.url,
        key=server.key,
        model=server.served_name,
        vocab_size=vocab_size,
        slots=slots_of(load),
        pids=(server.pid,),
        watch_gpu=on_gpu,
    )
    trace = traces.get(load.trace)
    measuring = measuring_of(demand, trace, budget_s, usual)
    return void_where_cut(run_load(loaded, load, measuring, trace=trace))
