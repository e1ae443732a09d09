"""Expectation: what a prediction says of candidates for a demand, by the objective that was asked for."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from selector.demand.objective import Objective
from selector.demand.targets import LIKELY, Targets, chance_within, nearness
from selector.predict.prediction import Predicted, Prediction
from selector.question import Known, Question


def expect(question: Question, known: Known, labels: Sequence[str]) -> Prediction | None:
    """What is expected of the candidates `labels`, the best for the objective first.

    None where nothing like them is known, and for the memory that they take, which nothing predicts.

    Raises:
        CacheError: the cache cannot be read.
    """
    demand = question.demand
    if demand.objective is Objective.MEMORY:
        return None
    whole = known.predict(labels, demand.workload)
    if whole is None or not (demand.targets or demand.objective is Objective.TTFT):
        return whole
    first = known.predict(labels, replace(demand.workload, output_tokens=1))
    if first is None:
        return None
    whole = _with_chances(whole, first, demand.targets)
    return _ordered_by(first, whole) if demand.objective is Objective.TTFT else whole


def best_of(question: Question, known: Known, prediction: Prediction, allowed: Collection[str]) -> Predicted | None:
    """The candidate to take of those that are allowed; None where nothing is expected of any.

    Where there are targets, of those that are likely to meet them; where none is, the nearest to them.
    """
    rows = [row for row in prediction.predicted if row.candidate in allowed]
    if not rows:
        return None
    targets = question.demand.targets
    if targets:
        meeting = (row for row in rows if (row.chance or 0.0) >= LIKELY)
        return next(meeting, None) or max(
            rows, key=lambda row: nearness(row.chance or 0.0, targets.worst(row.ttft_s, row.tpot_s))
        )
    if rows[0] is not prediction.pick:
        # Of some of them the least regret is another one's than of all.
        among = expect(question, known, [row.candidate for row in rows])
        return next(row for row in rows if among is None or row.candidate == among.pick.candidate)
    return rows[0]


def _with_chances(whole: Prediction, first: Prediction, targets: Targets) -> Prediction:
    """With the probability that a launch meets the targets.

    What makes a launch slow makes its first token and the others slow, so that the less likely of the two decides. A
    time per token is as uncertain as the whole answer.
    """
    spreads = {row.candidate: row.ci90 for row in first.predicted}
    rows = []
    for row in whole.predicted:
        both = {"TTFT": spreads[row.candidate], "TPOT": row.ci90}
        kept = [
            chance_within(time / target, both[name]) for name, target, time in targets.against(row.ttft_s, row.tpot_s)
        ]
        rows.append(replace(row, chance=min(kept, default=None)))
    return replace(whole, predicted=tuple(rows))


def _ordered_by(first: Prediction, whole: Prediction) -> Prediction:
    """The times of whole workloads; their order, P(best) and interval are those of their first tokens."""
    by_label = {row.candidate: row for row in whole.predicted}
    rows = tuple(replace(by_label[row.candidate], p_best=row.p_best, ci90=row.ci90) for row in first.predicted)
    return replace(whole, predicted=rows, expected_regret=first.expected_regret)
