"""The screens of `select --why` and `explain`."""

from collections.abc import Iterator

from calibration.load.use import title_of
from calibration.measurement import Candidate, OutputVerdict
from calibration.probing.probe import Probe
from selector.answer import Selection, Source
from selector.choice.refusals import reasons_of
from selector.demand.objective import Objective
from selector.demand.price import Costs
from selector.demand.targets import percent
from selector.evidence.evidence import OnLayers
from selector.evidence.provenance import Provenance
from selector.evidence.ranking import Ranked
from selector.explanation import Explanation, Group, titled
from selector.predict.limits.roofline import Shares, needs_of, shares_of
from selector.predict.prediction import Prediction
from selector.rules.judge import Verdict
from selector.screens import served as served_screens
from selector.screens.probe import limits
from selector.screens.text import (
    age,
    amount,
    between,
    columns,
    listing,
    money,
    output,
    plural,
    seconds,
    seconds_within,
    share,
    size,
)


def why(
    selection: Selection, *, now: float | None = None, across: int | None = None, probe: Probe | None = None
) -> list[str]:
    """The answer with its ranking, what was refused, what failed.

    Args:
        probe: of this host; what was measured here is shown beside it.
    """
    objective = "" if selection.objective is Objective.LATENCY else f", objective {selection.objective}"
    targets = f", {selection.demand.targets}" if selection.demand.targets else ""
    asked = f"{title_of(selection.use)}{objective}{targets}"
    lines = [f"{selection.candidate.label}, {where_from(selection, now)}, for {asked}"]
    if inherited := selection.inherited():
        lines.append(f"  {inherited.sentence}")
    if selection.extrapolated:
        where = "beyond the measured numbers of streams" if selection.served else "outside the measured cells"
        lines.append(f"  {where}: extrapolated")
    if selection.tie:
        lines.append(
            f"  as {selection.objective.good} as {listing(selection.tie)}: chosen by {_tie_broken_by(selection)}"
        )
    if selection.served:
        goodput = bool(selection.demand.targets)
        lines += ["  " + line for line in served_screens.table(selection.served, goodput=goodput)]
    elif selection.demand.loads:
        lines.append(f"  not measured as served; for the static batch {selection.workload.label}:")
    judged = any(ranked.agreement.verdict is not OutputVerdict.RIGHT for ranked in selection.ranking)
    made = any(ranked.prepare_s is not None for ranked in selection.ranking)
    partly = len({ranked.covered for ranked in selection.ranking}) > 1
    shares = {} if probe is None else _shares(selection, probe)
    rows = [
        (
            *_times(ranked, selection.objective),
            *(_limits(shares.get(ranked.candidate)) if shares else ()),
            *((f"meets {percent(ranked.chance)}",) if ranked.chance is not None else ()),
            *(_costs(ranked.costs) if ranked.costs else ()),
            *((output(ranked.agreement),) if judged else ()),
            *((_converted(ranked),) if made else ()),
            *(("" if ranked.covered else "extrapolated",) if partly else ()),
        )
        for ranked in selection.ranking
    ]
    right = 3 + 2 * bool(shares) + (selection.objective.unit != "s") + bool(selection.demand.targets)
    right += 2 * (selection.demand.price_per_hour is not None)
    lines += ["  " + line for line in columns(rows, "<" + ">" * right)]
    if selection.prediction:
        lines += ["  " + line for line in _expectations(selection, selection.prediction)]
    cached = any(reached.cached for reached in shares.values())
    notes = [("machine:", limits(probe, now=now, cached=cached))] if probe is not None and shares else []
    if any(part.level.name == "fleet" for part in selection.provenance):
        notes += [("read from:", _read_from(part, now)) for part in selection.provenance]
    notes += [("refused:", f"{name} ({reason})") for name, reason in _joined(selection)]
    notes += [("failed:", f"{f.candidate.label} ({f.kind} in {f.stage}: {f.message})") for f in selection.failed]
    notes += [("stale:", f"{s.candidate.label} ({', '.join(s.differences)})") for s in selection.stale]
    notes += [
        ("left out:", f"{name} ({reason})") for name, reason in reasons_of(selection.left_out, selection.verdicts)
    ]
    if not selection.prediction:
        whole = {ranked.candidate for ranked in selection.ranking}
        shallow = [depth for depth in selection.layers if depth.record.candidate not in whole]
        notes += [("on layers:", f"{depth.record.candidate.label} ({_depth(depth)})") for depth in shallow]
    if selection.measured_at is not None and selection.unmeasured:
        notes.append(("not measured:", ", ".join(c.label for c in selection.unmeasured)))
    titled = [(title if i == 0 or notes[i - 1][0] != title else "", text) for i, (title, text) in enumerate(notes)]
    return lines + ["  " + line for line in columns(titled, across=None if across is None else across - 2)]


def _read_from(part: Provenance, now: float | None) -> str:
    """`the fleet's cache /etc/fleet.db (3 launches of host a1b2c3, the newest 6 days ago; snapshot made today)`."""
    whose = "the fleet's cache" if part.level.name == "fleet" else "your own cache"
    made = "" if part.level.made_at is None else f"; snapshot made {age(part.level.made_at, now)}"
    launches = f"{plural(part.launches, 'launch')} of host {part.host}, the newest {age(part.newest, now)}"
    return f"{whose} {part.level.location} ({launches}{made})"


def where_from(selection: Selection, now: float | None = None) -> str:
    """Where the answer comes from, as in: measured here 3 days ago (12 launches, 4 candidates)."""
    if selection.served and selection.measured_at is not None:
        launches = sum(len(one.launches) for one in selection.served)
        how = "with other versions " if selection.source is Source.STALE else ""
        evidence = f"{plural(launches, 'launch')}, {plural(len(selection.served), 'candidate')}"
        return f"measured here as served {how}{age(selection.measured_at, now)} ({evidence})"
    launches = sum(ranked.n for ranked in selection.ranking)
    prediction = selection.prediction
    if prediction and selection.source is Source.PREDICTED:
        models, hosts = plural(len(prediction.models), "model"), plural(len(prediction.hosts), "host")
        return f"predicted by launches of {models} on {hosts}"
    if selection.source is Source.LAYERS and selection.measured_at is not None:
        rungs = dict.fromkeys(str(depth.rung) for depth in selection.layers)
        launches = sum(len(depth.record.launches) for depth in selection.layers)
        evidence = f"{plural(launches, 'launch')}, {plural(len(selection.layers), 'candidate')}"
        predicted = "; the times of the whole model are predicted" if prediction else ""
        return f"measured here on {listing([*rungs])} {age(selection.measured_at, now)} ({evidence}){predicted}"
    if selection.measured_at is None or not launches:
        return "the first of the static order" if selection.source is Source.RULES else str(selection.source)
    word = {Source.MEASURED: "measured here", Source.STALE: "measured here with other versions"}.get(
        selection.source, str(selection.source)
    )
    evidence = f"{plural(launches, 'launch')}, {plural(len(selection.ranking), 'candidate')}"
    return f"{word} {age(selection.measured_at, now)} ({evidence})"


def _expectations(selection: Selection, prediction: Prediction) -> list[str]:
    """What is expected of each candidate, and what the answer is expected to lose to the best of them."""
    depths = {depth.record.candidate.label: _depth(depth) for depth in selection.layers}
    first_token = selection.objective is Objective.TTFT
    asked, other = ("TTFT", "in all") if first_token else ("expected", "TTFT")
    meets = ("meets",) if selection.demand.targets else ()
    rows = [("candidate", asked, "90 % of launches", "P(best)", other, "TPOT", *meets, "measured" if depths else "")]
    for row in prediction.predicted:
        ttft, whole = seconds(row.ttft_s), seconds(row.e2e_s)
        times = (ttft, between(*row.ci90), whole) if first_token else (whole, between(*row.ci90), ttft)
        depth = depths.get(row.candidate, "the whole model" if depths else "")
        kept = () if row.chance is None else (percent(row.chance),)
        rows.append((row.candidate, *times[:2], percent(row.p_best), times[2], seconds(row.tpot_s), *kept, depth))
    lines = columns(rows, "<>>>>>" + ">" * len(meets))
    if selection.expected is prediction.pick and len(prediction.predicted) > 1:
        worse = 100 * (prediction.expected_regret - 1)
        more = f"{worse:.1f} % more than" if worse >= 0.05 else "no longer than"
        lines.append(f"{selection.candidate.label} is expected to take {more} the best of them.")
    return lines


def _depth(depth: OnLayers) -> str:
    """`6 of 32 layers, right`."""
    return f"{depth.rung}, {output(depth.record.agreement)}"


def _tie_broken_by(selection: Selection) -> str:
    """What decided between candidates that are as fast as each other."""
    if selection.source is Source.FORCED:
        return "you"
    if selection.served:
        best = min(selection.served, key=lambda one: one.value)
        return "its median" if best.candidate == selection.candidate else "the static order"
    timed = [r for r in selection.ranking if r.covered] or list(selection.ranking)
    fastest = min(timed, key=selection.objective.of)
    if fastest.candidate != selection.candidate:
        return "the static order"
    among = "" if len(timed) == len(selection.ranking) else " among those timed around the workload"
    return f"its median{among}"


def _times(ranked: Ranked, objective: Objective) -> tuple[str, ...]:
    half = (ranked.ci95[1] - ranked.ci95[0]) / 2
    return (
        ranked.candidate.label,
        seconds_within(ranked.e2e_s, half),
        f"TTFT {seconds(ranked.ttft_s)}",
        f"TPOT {seconds(ranked.tpot_s)}",
        *([amount(ranked, objective)] if objective.unit != "s" else []),
    )


def _shares(selection: Selection, probe: Probe) -> dict[Candidate, Shares]:
    """Of each candidate that was measured here: what its times reach of the machine's limits."""
    whole = selection.source in {Source.MEASURED, Source.STALE, Source.FORCED} and selection.prediction is None
    shares = {}
    for ranked in selection.ranking if whole else ():
        if ranked.candidate not in selection.unmeasured and (
            needs := needs_of(
                selection.spec,
                selection.host,
                ranked.candidate,
                selection.workload,
                devices=selection.demand.tensor_parallel,
            )
        ):
            tpot_s = ranked.tpot_s if selection.workload.output_tokens > 1 else None
            shares[ranked.candidate] = shares_of(needs, ranked.ttft_s, tpot_s, probe)
    return shares


def _limits(shares: Shares | None) -> tuple[str, str]:
    """`memory 78 %`, `int8 41 %`: in decode and in prefill."""
    if shares is None:
        return "", ""
    memory = "" if shares.bandwidth is None else f"memory {share(shares.bandwidth)}"
    return memory, "" if shares.rate is None else f"{shares.dtype} {share(shares.rate)}"


def _costs(costs: Costs) -> tuple[str, str]:
    """What a million new tokens cost, and a million of all; in the currency of the price."""
    return f"{money(costs.output)} per M new tokens", f"{money(costs.total)} per M of all"


def _converted(ranked: Ranked) -> str:
    """What the conversion took, once, before the first load; the times beside it do not contain it."""
    if ranked.prepare_s is None:
        return ""
    return f"converted once in {seconds(ranked.prepare_s)}, {size(ranked.artifact_bytes or 0)}"


def _joined(selection: Selection) -> Iterator[tuple[str, str]]:
    """The name of a backend or of some variants, and all their reasons in one sentence."""
    reasons_by_name: dict[str, list[str]] = {}
    for name, reason in reasons_of(selection.rejected, selection.verdicts):
        reasons_by_name.setdefault(name, []).append(reason)
    yield from ((name, ", and ".join(reasons)) for name, reasons in reasons_by_name.items())


def explained(explanation: Explanation, *, across: int | None = None) -> list[str]:
    """Every variant under what its verdict means."""
    rows: list[tuple[str, str, str]] = []
    device = explanation.host.device
    for group, verdicts in explanation.groups.items():
        title = titled(group, explanation.host)
        if group is Group.RUNS:
            for v in verdicts:
                free = f" of {size(device.free_bytes)}" if device.free_bytes else ""
                floor_s = explanation.least_tpot_s(v)
                floor = (f"TPOT at least {seconds(floor_s)}",) if floor_s else ()
                parts = [size(v.needed_bytes) + free, *floor, *_memory(v), *v.notes]
                rows.append((title, v.candidate.label, "; ".join(parts)))
                title = ""
        elif group is Group.ON_REQUEST:
            for v in verdicts:
                rows.append((title, v.candidate.label, v.left_out))
                title = ""
        else:
            mends = {r.text: r.mend for v in verdicts for r in v.reasons}
            previous = ""
            for name, reason in reasons_of(verdicts, explanation.verdicts):
                mend = f" ({mends[reason]})" if mends.get(reason) else ""
                rows.append((title, "" if name == previous else name, reason + mend))
                title, previous = "", name
    return columns(rows, across=across, gap=3)


def _memory(verdict: Verdict) -> Iterator[str]:
    """`weights 0.3, KV cache 0.1, rest 0.6 GiB` and `room for 8,192 tokens or b210`."""
    memory = verdict.memory
    if memory is not None:
        rest = memory.step_bytes + memory.overhead_bytes
        parts = {"weights": memory.weights_bytes, "KV cache": memory.key_value_bytes, "rest": rest}
        if memory.loading_takes_most:
            parts = {"loading": memory.load_bytes, **parts}
        if memory.margin_bytes:
            parts = {**parts, "margin": memory.margin_bytes}
        yield ", ".join(f"{name} {count / 2**30:.1f}" for name, count in parts.items()) + " GiB"
    if verdict.most is not None:
        yield f"room for {verdict.most.context_tokens:,} tokens or b{verdict.most.batch}"
