"""Whether an answer meets the targets, by how much it misses them, and who is surer to."""

from collections.abc import Iterable, Sequence

from selector.choice.picked import Pick
from selector.demand.targets import LIKELY, SURE, percent, seconds
from selector.evidence.ranking import Ranked
from selector.question import Question
from selector.served.ranking import ServedRanked


def unmet(question: Question, pick: Pick) -> str | None:
    """That the answer is not likely to meet the targets; None where it is, or where that is not known."""
    if pick.served:
        return None if pick.served[0].meets else _missed_under_load(question, pick.label, pick.served[0])
    if pick.ranked is not None:
        return None if pick.ranked.meets else _missed(question, pick.label, pick.ranked)
    row = pick.expected
    return foretold(question, pick) if row and row.chance is not None and row.chance < LIKELY else None


def foretold(question: Question, pick: Pick) -> str | None:
    """Whether the answer is expected to meet the targets; None where nothing is predicted."""
    row = pick.expected
    if row is None:
        return None
    chance = row.chance or 0.0
    verb = "meet" if chance >= LIKELY else "miss"
    times = f"TTFT {seconds(row.ttft_s)}, TPOT {seconds(row.tpot_s)}; {percent(chance)} likely to meet"
    return f"{pick.label} is predicted to {verb} {question.demand.targets} ({times}), not measured"


def surest(question: Question, pick: Pick, answer: Ranked) -> Iterable[str]:
    """A candidate that is likelier to meet the targets than an answer that is not sure to."""
    if answer.chance is None or not answer.meets or answer.chance >= SURE:
        return
    demand = question.demand
    unsure = f"{pick.label} meets {demand.targets} with a probability of {percent(answer.chance)}"
    others = (r for r in pick.ranking if r.distance <= answer.distance and demand.names(r.candidate.label))
    likeliest = max(others, key=lambda r: r.nearness)
    if likeliest is answer:
        yield f"{unsure}; no other is surer"
    else:
        times = demand.objective.of(likeliest) / demand.objective.of(answer)
        worse = f"{times:.2f} times as much {demand.objective.measure}"
        yield f"{unsure}; {likeliest.candidate.label} does with {percent(likeliest.chance or 0.0)}, at {worse}"


def _missed(question: Question, label: str, answer: Ranked) -> str:
    """That the targets are missed, by how much, and how unlikely it is that they are met."""
    demand = question.demand
    targets = demand.targets
    misses = [
        f"{name} of {time:.3g} s is {_excess(time / target)}"
        for name, target, time in targets.against(answer.ttft_s, answer.tpot_s)
        if time > target
    ]
    missed = f"its {_all_of(misses)} for {demand.workload.label} ({percent(answer.chance or 0.0)} likely to meet)"
    if demand.forced:
        return f"{label} does not meet {targets}: {missed}"
    return f"no candidate that was measured meets {targets}; {label} is the nearest: {missed}"


def _missed_under_load(question: Question, label: str, answer: ServedRanked) -> str:
    targets, figures = question.demand.targets, answer.figures
    misses = [
        f"{name} p95 of {seconds(time)} is {_excess(time / target)}"
        for name, target, time in targets.against(figures.ttft_p95_s, figures.tpot_p95_s)
        if time > target
    ]
    who = "does not meet" if question.demand.forced else "is the nearest, and does not meet"
    return (
        f"{label} {who} {targets}: its {_all_of(misses)} under {answer.load.title}"
        f" ({percent(answer.chance or 0.0)} likely to meet)"
    )


def _all_of(misses: Sequence[str]) -> str:
    return " and its ".join(misses) or "medians do, but most of its launches miss one"


def _excess(ratio: float) -> str:
    """`4.7 % too long`, `2.9 times its target`."""
    more = 100 * (ratio - 1)
    return f"{more:.{more < 10:d}f} % too long" if ratio < 2 else f"{ratio:.1f} times its target"
