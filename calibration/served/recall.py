"""recalled(): a trace from what a launch under it has kept, so that it can be sent again without its file."""

from collections.abc import Iterable

from calibration.load.load import Load
from calibration.load.sample import Point
from calibration.load.trace import Arrival, Trace
from calibration.measurement import Outcome, Served


def recalled(load: Load, outcomes: Iterable[Outcome]) -> Trace | None:
    """The trace of a load; None where no launch was sent all of it and answered all of it as it was asked.

    The digest tells: a load that was stopped has fewer requests, and a server that takes words counts other lengths.
    """
    points = [point for o in outcomes if isinstance(o, Served) for point in o.points if point.load == load]
    traces = (_sent(point) for point in reversed(points))
    return next((trace for trace in traces if trace is not None and trace.digest == load.trace), None)


def _sent(point: Point) -> Trace | None:
    """What a server was sent; None where that is no trace."""
    arrivals = [
        Arrival(at_s=asked.due_s, prompt_tokens=asked.prompt_tokens, output_tokens=asked.output_tokens)
        for asked in sorted(point.asked, key=lambda asked: asked.number)
        if asked.due_s is not None
    ]
    name = point.load.facts.name if point.load.facts else ""
    return Trace(arrivals=tuple(arrivals), name=name) if arrivals else None
