"""The results of `calibrate`: a line for each candidate, and what a person would say of them."""

from collections.abc import Iterable, Sequence

from calibration.measurement import Check, Failure, FailureKind, Measurement, Outcome, OutputVerdict, Served
from calibration.noise import prior_cv
from calibration.race.tally import Sureness, Tally
from calibration.rung import Rung
from calibration.served.tally import ServedTally
from selector.answer import Selection, Source
from selector.demand.objective import Objective
from selector.demand.targets import percent
from selector.evidence.comparison import ratio
from selector.evidence.ranking import Ranked
from selector.planning.calibration import Calibration
from selector.screens import served as served_screens
from selector.screens.calibration.steps import first_line, probability
from selector.screens.text import (
    amount,
    between,
    columns,
    converted,
    decode,
    listing,
    output,
    plural,
    prefill,
    rate,
    seconds,
    shown_cell,
    size,
)


def table(calibration: Calibration) -> list[str]:
    """A line for each candidate that was launched, the best for the first workload first."""
    tally = calibration.tally
    of_batches = [selection for selection in calibration.selections if not selection.demand.loads]
    ranking = [ranked for selection in of_batches[:1] for ranked in selection.ranking]
    order = [ranked.candidate.label for ranked in ranking]
    cv = ranking[0].spread.launch_cv if ranking else prior_cv(calibration.plan.host.device.kind)
    measured = [o for o in tally.outcomes if isinstance(o, Measurement)]
    if not measured:
        return []
    cell = shown_cell(c.workload for m in measured for c in m.cells)
    labels = sorted(
        {m.candidate.label for m in measured},
        key=lambda label: (order.index(label) if label in order else len(order), label),
    )
    on_gpu = any(m.gpu_memory_bytes for m in measured)
    speeds = (f"prefill pp{cell.prompt_tokens} b{cell.batch}", f"decode tg{cell.output_tokens} b{cell.batch}")
    made = any(m.prepare_s is not None for m in measured)
    heads = (*speeds, "GPU memory" if on_gpu else "peak memory", *(["converted in"] if made else []))
    rows = [("candidate", "launches", *heads, "output", "")]
    for label in labels:
        cut = _deepest([m.identity.cut for m in measured if m.candidate.label == label])
        launches = [m for m in measured if m.candidate.label == label and m.identity.cut == cut]
        ttft, tpot = prefill(launches, cell, cv), decode(launches, cell, cv)
        memory = max(m.gpu_memory_bytes or m.peak_memory_bytes for m in launches)
        out = f"out after round {tally.out[label]}" if label in tally.out else ""
        note = ", ".join(part for part in (f"on {Rung.parse(cut)}" if cut else "", out) if part)
        rows.append(
            (
                label,
                str(len(launches)),
                rate(ttft) if ttft else "-",
                rate(tpot) if tpot else "-",
                size(memory),
                *([converted(launches[-1])] if made else []),
                output(tally.agreements[label]) if label in tally.agreements else str(OutputVerdict.UNCHECKED),
                note,
            )
        )
    return columns(rows, "<>>>>" + (">" if made else "") + "<<", gap=3)


def served_tables(calibration: Calibration) -> list[str]:
    """For each load a table of the candidates as they were served."""
    lines = list[str]()
    for selection in calibration.selections:
        if selection.served:
            lines += [
                f"{selection.served[0].load.title}, as served",
                *served_screens.table(selection.served, goodput=bool(selection.demand.targets)),
                "",
            ]
    return lines[:-1]


def _deepest(cuts: Sequence[str]) -> str:
    """The cut of most layers; that of the whole model is empty."""
    return "" if "" in cuts else max(cuts, key=lambda cut: Rung.parse(cut).layers)


def sure(sureness: Sureness) -> str:
    """As in: sure: 0.96 that onnxruntime:int4 is within 3 % of the best, by 6 of 32 layers."""
    picks = list(dict.fromkeys(sureness.picks.values()))
    are = "is" if len(picks) == 1 else "are"
    where = "" if sureness.rung.whole else f", by {sureness.rung}"
    return f"sure: {probability(sureness.probability)} that {listing(picks)} {are} within 3 % of the best{where}"


def _sure_as_served(tally: ServedTally) -> list[str]:
    """As in: sure: 0.97 that openvino:fp32-pa is within 3 % of the best as served; nothing where nobody else was."""
    if len({outcome.candidate for outcome in tally.outcomes if isinstance(outcome, Served)}) < 2:
        return []
    are = "is" if len(tally.picks) == 1 else "are"
    chance = probability(tally.sureness)
    return [f"sure: {chance} that {listing(tally.picks)} {are} within 3 % of the best as served"]


def likely(selection: Selection) -> str:
    """What is known of an answer that stands on a few layers, as `select --why` says it."""
    row, prediction = selection.expected, selection.prediction
    if row is None or prediction is None:
        return ""
    times = f"{100 * (prediction.expected_regret - 1):.1f} %"
    return (
        f"Of the whole model {row.candidate} is the best with a probability of {percent(row.p_best)}, and is expected"
        f" to take {times} more than the best."
    )


def never_launched(tally: Tally, *, across: int | None = None) -> list[str]:
    """A line for each candidate that was not launched, or not whole, with the reason."""
    launched = {outcome.candidate.label for outcome in tally.outcomes}
    never = {label: why for label, why in tally.reasons.items() if label not in launched}
    rows = [("not launched", label, why) for label, why in never.items()]
    rows += [("not whole", label, why) for label, why in tally.whole_refused.items() if label in launched]
    return columns(rows, across=across)


def failures(outcomes: Iterable[Outcome], *, across: int | None = None) -> list[str]:
    """A line for each candidate that failed, with what it said."""
    rows = [
        ("failed", o.candidate.label, f"{o.kind} in {o.stage}: {first_line(o.message)}")
        for o in outcomes
        if isinstance(o, Failure)
    ]
    return columns(rows, across=across)


def sentences(calibration: Calibration) -> list[str]:
    """What a person would say of the answers, of what was not measured, and of what comes next."""
    lines = [verdict(selection) for selection in calibration.selections]
    if calibration.served is not None:
        lines += _sure_as_served(calibration.served)
        lines += served_screens.sentences(calibration.served)
    return lines + _of_batches(calibration) if calibration.plan.cells else lines


def _of_batches(calibration: Calibration) -> list[str]:
    """What is to be said of what was timed in batches."""
    tally, lines = calibration.tally, list[str]()
    on_layers = [s for s in calibration.selections if s.source is Source.LAYERS]
    if tally.sureness is not None and not on_layers:
        lines.append(sure(tally.sureness))
    lines += [likely(selection) for selection in on_layers if selection.expected is not None]
    if tally.unmeasured:
        why = " within the budget" if tally.ended == "budget" else f", {tally.ended}"
        lines.append(f"Not measured{why}: {', '.join(tally.unmeasured)}. The same command goes on from here.")
    elif tally.ended == "budget":
        lines.append("The budget ended before all was decided: the same command goes on from here.")
    cells = [c for o in tally.outcomes if isinstance(o, Measurement) for c in o.cells]
    dirty = sum(any(s.dirty for s in c.samples) for c in cells)
    if dirty:
        were = "was" if dirty == 1 else "were"
        lines.append(f"{plural(dirty, 'cell')} of {len(cells)} {were} disturbed by other programs that used the CPU.")
    if tally.fresh and tally.seconds > 0 and tally.check_s > 0:
        share = 100 * tally.check_s / tally.seconds
        lines.append(f"Correctness checks took {share:.0f} % of {tally.seconds:.0f} s.")
    checks = sum(isinstance(o, Check) and o.run_id in tally.fresh for o in tally.outcomes)
    if checks:
        lines.append(
            f"The times of {plural(checks, 'candidate')} were known: only the output was checked"
            " (--again times everything anew)."
        )
    if not tally.fresh:
        lines.append("Nothing was missing or stale, so nothing was measured anew (--again measures it all).")
    return lines


def verdict(selection: Selection) -> str:
    """As in: x answers pp512:tg128:b1 in 3.27 s, 1.71 ± 0.05 times faster than y."""
    if selection.served:
        return served_screens.verdict(selection)
    objective, workload = selection.objective, selection.workload.label
    first = next((r for r in selection.ranking if r.candidate == selection.candidate), None)
    if first is None and (row := selection.expected):
        takes = f"is predicted to answer {workload} in {seconds(row.e2e_s)} ({between(*row.ci90)})"
        measured = "measured on a few layers" if selection.source is Source.LAYERS else "not measured"
        return f"{row.candidate}, {measured}, {takes}."
    if first is None:
        return f"{selection.candidate.label} is the first of the static order for {workload}."
    start = f"{first.candidate.label} {objective.told.format(workload=workload, value=amount(first, objective))}"
    if selection.extrapolated:
        start += " (extrapolated)"
    others = [r for r in selection.ranking if r is not first]
    if first.chance is not None:
        how = "meets" if first.meets else "is the nearest to"
        start += f", and {how} {selection.demand.targets} ({percent(first.chance)} likely to meet)"
        if others and not any(first.meets and r.meets for r in others):
            return f"{start}; {'nothing else does' if first.meets else 'nothing that was measured meets them'}."
        others = [r for r in others if r.meets]
    if not others:
        return f"{start}; nothing else was measured."
    if selection.tie:
        return f"{start}, as {objective.good} as {listing(selection.tie)}."
    return f"{start}, {_better(others[0], first, objective)} than {others[0].candidate.label}."


def _better(worse: Ranked, best: Ranked, objective: Objective) -> str:
    times = ratio(worse, best, objective)
    places = 1 if times.value >= 10 else 2
    spread = f" ± {(times.high - times.low) / 2:.{places}f}" if objective.of_launch else ""
    return f"{times.value:.{places}f}{spread} times {objective.better}"


def all_failed(outcomes: Iterable[Outcome]) -> str:
    """The message for a calibration that measured nothing."""
    kinds = {o.candidate.label: o for o in outcomes if isinstance(o, Failure)}
    lines = [f"  {label}: {f.kind} in {f.stage}: {first_line(f.message)}" for label, f in kinds.items()]
    wrong = [f for f in kinds.values() if f.kind is FailureKind.WRONG_OUTPUT]
    start = "every candidate answered wrong" if lines and len(wrong) == len(kinds) else "no candidate was measured"
    return "\n".join([start, *lines])
