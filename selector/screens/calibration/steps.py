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
    PointBegan,
    PointEnded,
    ReferenceBegan,
    ReferenceFailed,
    ServedCheckBegan,
    ServedCheckEnded,
    ServerBegan,
    ServerGivenUp,
    ServerReady,
    ServingEvent,
    WaitingForAnother,
    WritingContinues,
)
from calibration.measurement import Check, Failure, Outcome, Served
from calibration.rung import Rung
from selector.choice.refusals import reasons_of
from selector.planning.events import Reach
from selector.planning.plan import Plan
from selector.planning.preparations import Preparations
from selector.rules.judge import not_tried
from selector.screens import served as served_screens
from selector.screens.remaining import about
from selector.screens.text import (
    columns,
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


def header(plan: Plan, *, random_weights: bool = False, across: int | None = None) -> list[str]:
    """Host, model, workloads, candidates, and the variants that are refused or left out."""
    spec = plan.spec
    quant = "not quantized" if spec.quant.method == "none" else spec.quant.label
    weights = " (random weights)" if random_weights or spec.name.startswith("shape:") else ""
    shape = f"{plural(spec.layers, 'layer')}, {parameters(spec.parameters)} parameters, {spec.dtype}"
    rows = [
        ("host", device_line(plan)),
        ("model", f"{spec.architecture}, {shape}, {quant}{weights}"),
        *([("workloads", "  ".join(cell.label for cell in plan.cells))] if plan.cells else []),
        *([("as served", "  ".join(load.title for load in plan.demand.loads))] if plan.demand.loads else []),
        *(("", sentence) for replay in plan.demand.replays for sentence in replay.sentences()),
        ("candidates", "  ".join(c.label for c in plan.candidates) or "none"),
    ]
    lines = columns(rows, across=across)
    untried = _titled("not tried", [(backend, not_tried(spec.architecture)) for backend in plan.untried])
    refused = _titled("refused", reasons_of(plan.refused, plan.verdicts))
    left_out = _titled("left out", [(v.candidate.label, v.left_out) for v in plan.left_out])
    width = max(len(title) for title, _ in rows)
    others = [(title.ljust(width), name, text) for title, name, text in (*untried, *refused, *left_out)]
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


def ladder(reaches: Sequence[Reach], *, across: int | None = None) -> list[str]:
    """A line for each rung: how many candidates it will probably launch, and what that takes."""
    rows, reasons = list[tuple[str, str]](), dict[str, str]()
    for reach in reaches:
        amount = f", {size(reach.bytes)}" if reach.bytes else ""
        most = "up to " if reach.at_most else ""
        what = f"{most}{plural(reach.candidates, 'candidate')}, about {about(reach.seconds)}{amount}"
        rows.append(("ladder" if not rows else "", f"{reach.rung}: {what if reach.candidates else 'nobody'}"))
        reasons |= reach.refused if reach.rung.whole else {}
    lines = columns([(title.ljust(10), text) for title, text in rows], across=across)
    by_reason: dict[str, list[str]] = {}
    for label, reason in reasons.items():
        by_reason.setdefault(reason, []).append(label)
    not_whole = [
        ("not whole" if i == 0 else "", ", ".join(labels), why) for i, (why, labels) in enumerate(by_reason.items())
    ]
    return lines + columns([(title.ljust(10), *rest) for title, *rest in not_whole], across=across)


def takes(expected: Estimate) -> str:
    """An estimate, as in: 24 s, 0.3 GiB."""
    return f"{about(expected.seconds)}, {size(expected.bytes)}" if expected.bytes else about(expected.seconds)


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


def serving(event: ServingEvent) -> str:
    """What is being done with a server, in a few words."""
    match event:
        case ServerBegan(slots=slots, threads=threads):
            return f"starting a server with {plural(slots, 'slot')} and {plural(threads, 'thread')}"
        case ServerReady(seconds=took_s):
            return f"ready after {seconds(took_s)}"
        case ServedCheckBegan():
            return "checking what it answers"
        case ServedCheckEnded(agreement=agreement):
            return served_screens.found(agreement)
        case PointBegan(number=number, of=of, load=load):
            return f"load {number}/{of} {load.title}"
        case PointEnded(point=taken):
            return served_screens.point(taken)
        case ServerGivenUp(why=why):
            return f"nothing of this server is kept: {why}"


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


def probability(value: float) -> str:
    """A probability in two decimals, and never 1.00, since nothing is.

    >>> probability(0.9449), probability(0.9999)
    ('0.94', 'more than 0.99')
    """
    return f"{value:.2f}" if value < 0.995 else "more than 0.99"


def launched(outcome: Outcome) -> str:
    """One line for a launch that is over."""
    depth = f"{Rung.parse(outcome.identity.cut)}, " if outcome.identity.cut else ""
    head = f"{outcome.candidate.label}, {depth}round {outcome.round}: "
    if isinstance(outcome, Failure):
        return f"{head}{outcome.kind} in {outcome.stage}: {first_line(outcome.message)}"
    if isinstance(outcome, Served):
        return head + served_screens.launched(outcome)
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


def first_line(message: str) -> str:
    """Of what a failure said."""
    return message.strip().partition("\n")[0]
