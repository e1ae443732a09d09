"""What is served of a model: the loads, and the candidates that are worth a server by what is predicted of batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from benchmarks.served.recorded import by_select, never_served
from calibration.backend import Backend
from calibration.cache.cache import Cache
from calibration.load.load import Load
from calibration.load.use import batch_of
from calibration.registry import find
from selector.context import DEFAULT
from selector.host.spec import HostSpec
from selector.planning.plan import Plan, plan
from selector.question import Question

HOPELESS = 3.0
"""A candidate is left out where it is predicted to take more than so many times as long as the best of its class of
precision, at every number of streams. Eight requests on two cores made the throughput of one stream 1.1 (llama.cpp) to
3.7 times as large (transformers), so that nobody gains more than that by the way in which it batches requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Candidates of one kind differ in little else than their speed: one of them stands for all."""

    backend: str
    batching: str
    """Streams.batching, or that of the engine's own server."""
    lossy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A model with the candidates that are served."""

    plan: Plan
    left_out: Mapping[str, float]
    """Label: how many times slower than the best of its class it is predicted to be, where it is nearest to it."""


def levels(lengths: str, streams: Sequence[int]) -> tuple[Load, ...]:
    """Closed loops of the same lengths, most streams first: if a budget cuts a launch, they are what it has.

    Raises:
        UsageError: it is no load.

    >>> [load.label for load in levels("pp32:tg16", (1, 8))]
    ['pp32:tg16:c8', 'pp32:tg16:c1']
    """
    return tuple(Load.parse(f"{lengths}:c{count}") for count in sorted(set(streams), reverse=True))


def read_task(
    model: str, loads: Sequence[Load], cache: Cache, *, backends: Sequence[str] = (), host: HostSpec | None = None
) -> Task:
    """The candidates of a model, those left out that cannot be the best of anything.

    Args:
        backends: only these backends or variants, and all of them.

    Raises:
        ModelError, UsageError, CacheError: as `plan`.
    """
    planned = plan(
        model, workloads=loads, objective="throughput", allow_lossy=True, backends=tuple(backends), host=host
    )
    labels = [spec.label for spec in planned.launch_specs]
    question = Question(
        spec=planned.spec, host=planned.host, demand=planned.demand.for_one(batch_of(loads[0])), cache=cache
    )
    known = DEFAULT.known(question)
    seconds: dict[str, list[float]] = {}
    for load in loads:
        prediction = None if backends else known.predict(labels, batch_of(load))
        for row in prediction.predicted if prediction else ():
            seconds.setdefault(row.candidate, []).append(row.e2e_s)
    left_out = hopeless(seconds, {label: kind_of(label) for label in labels})
    if left_out:
        # What one would serve without having measured a load is beside what one then knows.
        with never_served(cache) as static:
            answers = by_select(planned.spec.name, loads, static, planned.host).values()
        for label in {label for by_policy in answers for label in by_policy.values()}:
            left_out.pop(label, None)
    kept = tuple(spec for spec in planned.launch_specs if spec.label not in left_out)
    return Task(plan=replace(planned, launch_specs=kept), left_out=left_out)


def kind_of(label: str) -> Kind:
    """The kind of a candidate."""
    name, _, variant_name = label.partition(":")
    backend = find(name)
    variant = backend.variant(variant_name)
    own = type(backend).own_server is not Backend.own_server
    batching = "its own server's" if own else backend.streams_type(variant).batching
    return Kind(backend=name, batching=batching, lossy=variant.lossy)


def hopeless(seconds: Mapping[str, Sequence[float]], kinds: Mapping[str, Kind]) -> dict[str, float]:
    """Candidates that are not worth a server: those that are HOPELESS, and all but the best of each kind.

    Args:
        seconds: candidate label: what is predicted for each number of streams; of whom nothing is, nothing is said.

    Returns:
        Label: how many times slower than the best of its class, at the number of streams that suits it best. What is
        lossy is compared with all, the others among themselves.
    """
    exact = [label for label in seconds if not kinds[label].lossy]

    def times(label: str) -> float:
        rivals = list(seconds) if kinds[label].lossy else exact
        return min(own / min(seconds[rival][at] for rival in rivals) for at, own in enumerate(seconds[label]))

    best: dict[Kind, str] = {}
    for label in seconds:
        other = best.setdefault(kinds[label], label)
        if prod(seconds[label]) < prod(seconds[other]):
            best[kinds[label]] = label
    kept = {label for label in best.values() if times(label) <= HOPELESS}
    return {label: times(label) for label in seconds if label not in kept}
