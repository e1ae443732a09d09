"""The screens of what candidates do as servers under load: a table, and what a person would say of it."""

from collections.abc import Sequence
from math import isfinite

from calibration.load.sample import Figure, NoPoint, Point
from calibration.measurement import Agreement, OutputVerdict, Served
from calibration.noise import half_width
from calibration.served.tally import ServedTally
from selector.answer import Selection
from selector.demand.objective import Objective
from selector.demand.targets import percent
from selector.screens.text import columns, figure, listing, output, plural, seconds, size, within
from selector.served.arms import Way
from selector.served.ranking import ServedRanked, times_worse

HEAD = ("candidate", "tok/s", "TTFT p50", "p95", "TPOT p50", "p95", "E2E p50", "memory", "launches", "threads")


def table(ranking: Sequence[ServedRanked], *, goodput: bool = False) -> list[str]:
    """A line for each candidate.

    Args:
        goodput: targets were given, so that requests that meet them are told, too.
    """
    judged = any(v.verdict is not OutputVerdict.RIGHT for one in ranking for v in (one.agreement, one.as_served))
    priced = any(one.costs is not None for one in ranking)
    more = (*(("goodput", "meets") if goodput else ()), *(("per M new tokens",) if priced else ()))
    rows = [(*HEAD[:7], *more, *HEAD[7:], "P(best)", *(("output",) if judged else ()), "")]
    rows += [_row(one, goodput=goodput, priced=priced, judged=judged) for one in ranking]
    return columns(rows, "<" + ">" * (10 + len(more)))


def told(one: ServedRanked, objective: Objective) -> str:
    """A candidate's value by the objective, in its unit."""
    match objective.unit:
        case "bytes":
            return size(one.figures.memory_bytes)
        case "tok/s":
            return f"{figure(one.figures.output_tps)} tok/s"
        case "req/s":
            return f"{figure(one.figures.goodput_rps)} requests a second"
        case _ if isfinite(one.value):
            return seconds(one.value)
        case _:
            return "ever longer"


def verdict(selection: Selection) -> str:
    """As in: x generates 245 tok/s of pp512:tg128:c8 as served, 1.71 ± 0.05 times faster than y."""
    objective, device = selection.objective, selection.host.device.kind
    first = next(one for one in selection.served if one.candidate == selection.candidate)
    others = [one for one in selection.served if one is not first]
    told_ = objective.told.format(workload=first.load.title, value=told(first, objective))
    start = f"{first.candidate.label} {told_} as served with {plural(first.threads, 'thread')}"
    if first.way is not Way.MEASURED:
        start += f" ({first.way})"
    if first.chance is not None:
        how = "meets" if first.meets else "is the nearest to"
        start += f", and {how} {selection.demand.targets} at p95 ({percent(first.chance)} likely to meet)"
        if others and not any(first.meets and one.meets for one in others):
            return f"{start}; {'nothing else does' if first.meets else 'nothing that was measured meets them'}."
        others = [one for one in others if one.meets]
    if not others:
        return f"{start}; nothing else was measured so."
    if selection.tie:
        return f"{start}, as {objective.good} as {listing(selection.tie)}."
    times, half = times_worse(others[0], first, objective, device)
    if not isfinite(times):
        return f"{start}; {others[0].candidate.label} cannot."
    places = 1 if times >= 10 else 2
    return f"{start}, {times:.{places}f} ± {half:.{places}f} times {objective.better} than {others[0].candidate.label}."


def point(taken: Point | NoPoint) -> str:
    """One line for a load that is over."""
    if isinstance(taken, NoPoint):
        return f"{taken.load.title}: not measured, {taken.reason}"
    if taken.saturated:
        return f"{taken.load.title}: saturated, {taken.saturated}"
    ttft, tpot = (_percentiles(taken, of) for of in (Figure.TTFT, Figure.TPOT))
    void = f", void: {taken.void}" if taken.void else ""
    return (
        f"{taken.load.title}: {figure(taken.output_tps or 0.0)} tok/s, TTFT {ttft}, TPOT {tpot},"
        f" {plural(len(taken.sample), 'request')} in {seconds(taken.window_s)}{void}"
    )


def launched(outcome: Served) -> str:
    """A launch under load, without its candidate and what its loads have shown."""
    held = f"{plural(outcome.slots, 'slot')}, {plural(outcome.threads, 'thread')}"
    ready = f"ready after {seconds(outcome.load_s)}, {size(outcome.peak_memory_bytes)}"
    told = f"output {checked(outcome.agreement, outcome.as_served)}"
    return f"served {plural(len(outcome.points), 'load')} with {held}, {ready}, {told}"


def checked(alone: Agreement, as_served: Agreement) -> str:
    """`right, as served`, `lossy (KL 0.012), as served`, `right, not checked as served`.

    Args:
        alone: the verdict on the output of the engine alone.
    """
    match as_served.verdict:
        case OutputVerdict.WRONG:
            return f"{OutputVerdict.WRONG} as served"
        case OutputVerdict.UNCHECKED:
            return f"{output(alone)}, not checked as served"
        case _:
            return f"{output(alone)}, as served"


def found(agreement: Agreement) -> str:
    """A verdict on what was served: `output right, as served: 61 of 61 tokens of 12 requests at once are ...`."""
    match agreement.verdict:
        case OutputVerdict.WRONG:
            return f"wrong output as served: {agreement.detail}"
        case OutputVerdict.UNCHECKED:
            return f"not checked as served: {agreement.detail}"
        case _:
            return f"output {agreement.verdict}, as served: {agreement.detail}"


def whole(outcome: Served) -> str:
    """The same with its loads."""
    return f"{launched(outcome)}: {'; '.join(map(point, outcome.points))}"


def sentences(tally: ServedTally) -> list[str]:
    """What was not measured under load, and what comes next."""
    lines = [f"{label} was out: {why}." for label, why in tally.out.items()]
    if tally.unmeasured:
        lines.append(
            f"Never served within the budget: {', '.join(tally.unmeasured)}. The same command goes on from here."
        )
    elif tally.ended == "budget":
        lines.append("The budget ended before all was decided under load: the same command goes on from here.")
    points = [point for o in tally.outcomes if isinstance(o, Served) for point in o.points]
    if void := sum(bool(point.void) for point in points):
        lines.append(
            f"{plural(void, 'load')} of {len(points)} {'is' if void == 1 else 'are'} void: {_why_void(points)}."
        )
    if tally.fresh and tally.check_s > 0:
        share = percent(tally.check_s / max(tally.seconds, tally.check_s))
        lines.append(f"Correctness checks, as served too, took {share} of {seconds(tally.seconds)}.")
    if not tally.fresh:
        lines.append("Nothing under load was missing or stale, so nothing was served anew (--again measures it all).")
    return lines


def _row(one: ServedRanked, *, goodput: bool, priced: bool, judged: bool) -> tuple[str, ...]:
    figures = one.figures
    half = half_width([launch.figures.output_tps for launch in one.launches], one.launch_cv)
    met = (f"{figure(figures.goodput_rps)} req/s", percent(one.chance or 0.0)) if goodput else ()
    cost = (f"{one.costs.output:.3g}" if one.costs else "-",) if priced else ()
    notes = [] if one.way is Way.MEASURED else [str(one.way)]
    notes += ["saturated"] if not isfinite(figures.ttft_p50_s) else []
    notes += ["void"] if one.void else []
    return (
        one.candidate.label,
        within(figures.output_tps, half),
        *(_time(value) for value in (figures.ttft_p50_s, figures.ttft_p95_s, figures.tpot_p50_s, figures.tpot_p95_s)),
        _time(figures.e2e_s),
        *met,
        *cost,
        size(figures.memory_bytes),
        str(len(one.launches)),
        str(one.threads),
        percent(one.p_best),
        *((checked(one.agreement, one.as_served),) if judged else ()),
        ", ".join(notes),
    )


def _time(value: float) -> str:
    """`-` where there is none: a saturated load has no times, and an answer that comes whole has no TPOT."""
    return seconds(value) if isfinite(value) and value > 0 else "-"


def _percentiles(taken: Point, of: Figure) -> str:
    """`p50 61.0 ms, p95 120 ms`."""
    half, most = taken.percentile(of, 50), taken.percentile(of, 95)
    return "-" if half is None or most is None else f"p50 {_time(half)}, p95 {_time(most)}"


def _why_void(points: Sequence[Point]) -> str:
    return next(point.void for point in points if point.void)
