"""The screens of `calibrate`: what will be done, one line for what is being done, what came out."""

from collections.abc import Iterable, Sequence

from calibration.conversion.estimate import Estimate
from calibration.events import (
    CellBegan,
    CheckBegan,
    CheckEnded,
    CheckpointBegan,
    ConversionBegan,
    ConversionEvent,
    ConvertedAlongside,
    LaunchEvent,
    LaunchGivenUp,
    LoadBegan,
    LoadEnded,
    ReferenceBegan,
    ReferenceFailed,
    WaitingForAnother,
    WritingContinues,
)
from calibration.measurement import Check, Failure, FailureKind, Measurement, Outcome, OutputVerdict
from calibration.noise import prior_cv
from calibration.race.tally import Sureness, Tally
from calibration.rung import Rung
from selector.answer import Selection, Source
from selector.choice.refusals import reasons_of
from selector.comparison import ratio
from selector.objective import Objective
from selector.planning.calibrate import Calibration
from selector.planning.plan import Plan
from selector.planning.preparations import Preparations
from selector.ranking import Ranked
from selector.screens.text import (
    amount,
    between,
    columns,
    converted,
    cv_of_one,
    decode,
    listing,
    output,
    parameters,
    plural,
    prefill,
    rate,
    seconds,
    shown_cell,
    size,
)
from selector.targets import percent


def header(plan: Plan, *, random_weights: bool = False, across: int | None = None) -> list[str]:
    """Host, model, workloads, candidates, and the variants that are refused or left out."""
    spec = plan.spec
    quant = "not quantized" if spec.quant.method == "none" else spec.quant.label
    weights = " (random weights)" if random_weights or spec.name.startswith("shape:") else ""
    shape = f"{plural(spec.layers, 'layer')}, {parameters(spec.parameters)} parameters, {spec.dtype}"
    rows = [
        ("host", device_line(plan)),
        ("model", f"{spec.architecture}, {shape}, {quant}{weights}"),
        ("workloads", "  ".join(cell.label for cell in plan.cells)),
        ("candidates", "  ".join(c.label for c in plan.candidates) or "none"),
    ]
    lines = columns(rows, across=across)
    refused = _titled("refused", reasons_of(plan.refused, plan.verdicts))
    left_out = _titled("left out", [(v.candidate.label, v.left_out) for v in plan.left_out])
    width = max(len(title) for title, _ in rows)
    others = [(title.ljust(width), name, text) for title, name, text in (*refused, *left_out)]
    return lines + columns(others, across=across)


def prepares(made: Preparations, *, across: int | None = None) -> list[str]:
    """What will be made before anything is measured, its time and its size; nothing where all is there."""
    estimates = [("random weights", made.checkpoint)] if made.checkpoint else []
    estimates += made.conversions
    not_made = columns([("not made" if i == 0 else "", *pair) for i, pair in enumerate(_not_made(made))], across=across)
    if not estimates:
        return not_made
    names = ", ".join(f"{label} ({takes(expected)})" for label, expected in estimates)
    total = f"{about(made.seconds)} and {size(made.bytes)}" if made.bytes else about(made.seconds)
    text = f"once, about {total} of the {size(made.free_bytes)} free on {made.disk}: {names}"
    rows = [("prepares".ljust(10), text)]
    if made.most_needed_bytes > made.free_bytes:
        rows.append(
            ("", f"not all of it fits: {size(made.most_needed_bytes)} are needed (autobackend artifacts prune)")
        )
    return columns(rows, across=across) + not_made


def _not_made(made: Preparations) -> list[tuple[str, str]]:
    """Backend and variants of the conversions that memory will not hold, and why: each reason once."""
    labels: dict[tuple[str, str], list[str]] = {}
    for label, reason in made.too_large.items():
        backend, _, variant = label.partition(":")
        labels.setdefault((backend, reason), []).append(variant)
    return [(f"{backend}:{','.join(variants)}", reason) for (backend, reason), variants in labels.items()]


def takes(expected: Estimate) -> str:
    """An estimate, as in: 24 s, 0.3 GiB."""
    return f"{about(expected.seconds)}, {size(expected.bytes)}" if expected.bytes else about(expected.seconds)


def about(value: float) -> str:
    """An estimated duration, which has no decimals.

    >>> about(24.3), about(125)
    ('24 s', '2:05 min')
    """
    return f"{max(1, round(value))} s" if value < 99.5 else seconds(value)


def device_line(plan: Plan) -> str:
    """The device that is measured, and what its host has."""
    host = plan.host
    if host.device.kind == "cpu":
        features = " ".join(sorted(host.cpu_features))
        return f"{host.device.name}, {size(host.memory_bytes)}; no GPU ({features})"
    count = f"{len(host.devices)} x " if len(host.devices) > 1 else ""
    machine = f"{host.cpu_model}, {plural(host.cores, 'core')}"
    return f"{count}{host.device.name}, {size(host.device.memory_bytes)}; {machine}"


def _titled(title: str, pairs: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str, str]]:
    previous = None
    for i, (name, text) in enumerate(pairs):
        yield (title if i == 0 else "", "" if name == previous else name, text)
        previous = name


def step(event: LaunchEvent) -> str:
    """What is being done, in a few words."""
    match event:
        case ReferenceBegan():
            return "computing the reference's answers"
        case ReferenceFailed(message=message):
            return f"no reference, outputs stay unchecked: {message}"
        case LoadBegan():
            return "loading"
        case LoadEnded(seconds=took_s):
            return f"loaded in {seconds(took_s)}"
        case CheckBegan():
            return "checking its output"
        case CheckEnded(agreement=agreement):
            return f"output {output(agreement)}"
        case CellBegan(number=number, of=of, workload=workload):
            return f"cell {number}/{of} {workload.label}"
        case _:
            return _making(event)


def _making(event: ConversionEvent) -> str:
    match event:
        case CheckpointBegan():
            return f"writing {_checkpoint(event)}, once: about {takes(event.expected)}"
        case ConversionBegan(expected=expected):
            return f"converting the model, once: about {takes(expected)}"
        case ConvertedAlongside(others=others):
            return f"converting for {', '.join(others)}, too"
        case WaitingForAnother(doing=doing):
            return f"waiting for another calibration that {doing}"
        case WritingContinues():
            return _written(event)


def _checkpoint(event: CheckpointBegan) -> str:
    """`random weights for the first 3 of 32 layers of shape:llama-3.1-8b`."""
    model = f"the first {Rung.parse(event.cut)} of {event.model}" if event.cut else event.model
    return model if event.own else f"random weights for {model}"


def _written(event: WritingContinues) -> str:
    """As in: converted model: 1.0 GiB of about 2.0 GiB, 20 s so far (2:05 min expected)."""
    expected = event.expected
    fits = event.written_bytes <= expected.needed_bytes
    of = f" of about {size(expected.needed_bytes)}" if fits else ""
    return (
        f"{event.what}: {size(event.written_bytes)}{of}, "
        f"{about(event.elapsed_s)} so far ({about(expected.seconds)} expected)"
    )


def given_up(event: LaunchGivenUp) -> str:
    """One line for a launch that the budget ended."""
    kept = f"{event.cells} of {event.of} cells are kept" if event.cells else "nothing was timed yet"
    return f"{event.candidate} was given up after {seconds(event.seconds)}, for the budget's sake: {kept}"


def standing(picks: Sequence[str], sureness: float) -> str:
    """As in: 0.83 sure that the best is onnxruntime:int4."""
    return f"{probability(sureness)} sure that the best is {listing(list(dict.fromkeys(picks)))}"


def sure(sureness: Sureness) -> str:
    """As in: sure: 0.96 that onnxruntime:int4 is within 3 % of the best, on 6 of 32 layers."""
    picks = list(dict.fromkeys(sureness.picks.values()))
    are = "is" if len(picks) == 1 else "are"
    where = "" if sureness.rung.whole else f", on {sureness.rung}"
    return f"sure: {probability(sureness.probability)} that {listing(picks)} {are} within 3 % of the best{where}"


def never_launched(tally: Tally, *, across: int | None = None) -> list[str]:
    """A line for each candidate that was not launched, with the reason."""
    launched = {outcome.candidate.label for outcome in tally.outcomes}
    rows = [("not launched", label, why) for label, why in tally.reasons.items() if label not in launched]
    return columns(rows, across=across)


def probability(value: float) -> str:
    """A probability in two decimals, and never 1.00, since nothing is.

    >>> probability(0.9449), probability(0.9999)
    ('0.94', 'more than 0.99')
    """
    return f"{value:.2f}" if value < 0.995 else "more than 0.99"


def left(remaining_s: float | None) -> str:
    """As in: about 2:10 min left; empty while nothing is known."""
    return "" if remaining_s is None else f"about {about(remaining_s)} left"


def launched(outcome: Outcome) -> str:
    """One line for a launch that is over."""
    head = f"{outcome.candidate.label}, round {outcome.round}: "
    if isinstance(outcome, Failure):
        return f"{head}{outcome.kind} in {outcome.stage}: {_first_line(outcome.message)}"
    if isinstance(outcome, Check):
        return (
            f"{head}checked, not timed again: loaded in {seconds(outcome.load_s)}, output {output(outcome.agreement)}"
        )
    cell = shown_cell([c.workload for c in outcome.cells])
    cv = cv_of_one(outcome)
    ttft, tpot = prefill([outcome], cell, cv), decode([outcome], cell, cv)
    figures = [f"prefill {rate(ttft)}" if ttft else "", f"decode {rate(tpot)}" if tpot else ""]
    parts = [f"loaded in {seconds(outcome.load_s)}", *figures, f"output {output(outcome.agreement)}"]
    return head + ", ".join(part for part in parts if part)


def table(calibration: Calibration) -> list[str]:
    """A line for each candidate that was launched, the best for the first workload first."""
    tally = calibration.tally
    ranking = [ranked for selection in calibration.selections[:1] for ranked in selection.ranking]
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


def _deepest(cuts: Sequence[str]) -> str:
    """The cut of most layers; that of the whole model is empty."""
    return "" if "" in cuts else max(cuts, key=lambda cut: Rung.parse(cut).layers)


def failures(tally: Tally, *, across: int | None = None) -> list[str]:
    """A line for each candidate that failed, with what it said."""
    rows = [
        ("failed", o.candidate.label, f"{o.kind} in {o.stage}: {_first_line(o.message)}")
        for o in tally.outcomes
        if isinstance(o, Failure)
    ]
    return columns(rows, across=across)


def sentences(calibration: Calibration) -> list[str]:
    """What a person would say of the answers, of what was not measured, and of what comes next."""
    tally = calibration.tally
    lines = [verdict(selection) for selection in calibration.selections]
    if tally.sureness is not None:
        lines.append(sure(tally.sureness))
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


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0]


def all_failed(tally: Tally) -> str:
    """The message for a calibration that measured nothing."""
    kinds = {o.candidate.label: o for o in tally.outcomes if isinstance(o, Failure)}
    lines = [f"  {label}: {f.kind} in {f.stage}: {_first_line(f.message)}" for label, f in kinds.items()]
    wrong = [f for f in kinds.values() if f.kind is FailureKind.WRONG_OUTPUT]
    start = "every candidate answered wrong" if lines and len(wrong) == len(kinds) else "no candidate was measured"
    return "\n".join([start, *lines])
