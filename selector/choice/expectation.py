"""Expectation: what a prediction says of candidates for a demand, by the objective that was asked for."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from selector.context import Known, Question
from selector.objective import Objective
from selector.predict.prediction import Predicted, Prediction


def expect(question: Question, known: Known, labels: Sequence[str]) -> Prediction | None:
    """What is expected of the candidates `labels`, the best for the objective first.

    None where nothing like them is known, and for the memory that they take, which nothing predicts.

    Raises:
        CacheError: the cache cannot be read.
    """
    demand = question.demand
    match demand.objective:
        case Objective.MEMORY:
            return None
        case Objective.TTFT:
            whole = known.predict(labels, demand.workload)
            first = known.predict(labels, replace(demand.workload, output_tokens=1))
            return whole and first and _ordered_by(first, whole)
        case _:
            return known.predict(labels, demand.workload)


def best_of(question: Question, known: Known, prediction: Prediction, allowed: Collection[str]) -> Predicted | None:
    """The candidate to take of those that are allowed; None where nothing is expected of any.

    Where there are targets, of those that are expected to meet them; where none is, the nearest to them.
    """
    rows = [row for row in prediction.predicted if row.candidate in allowed]
    if not rows:
        return None
    targets = question.demand.targets
    if targets:
        meeting = [row for row in rows if targets.worst(row.ttft_s, row.tpot_s) <= 1.0]
        return next(iter(meeting), None) or min(rows, key=lambda row: targets.worst(row.ttft_s, row.tpot_s))
    if rows[0] is not prediction.pick:
        # Of some of them the least regret is another one's than of all.
        among = expect(question, known, [row.candidate for row in rows])
        return next(row for row in rows if among is None or row.candidate == among.pick.candidate)
    return rows[0]


def _ordered_by(first: Prediction, whole: Prediction) -> Prediction:
    """The times of whole workloads; their order, P(best) and interval are those of their first tokens."""
    by_label = {row.candidate: row for row in whole.predicted}
    rows = tuple(replace(by_label[row.candidate], p_best=row.p_best, ci90=row.ci90) for row in first.predicted)
    return replace(whole, predicted=rows, expected_regret=first.expected_regret)
