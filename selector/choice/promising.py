"""A candidate that was not measured, and is predicted to be faster than the answer, which was."""

from calibration.race.bounds import BAND
from selector.answer import Source
from selector.choice.candidates import Candidates
from selector.choice.expectation import expect
from selector.choice.picked import Pick
from selector.demand.objective import Objective
from selector.predict.prediction import Predicted
from selector.question import Known, Question

REAL = 0.5
"""From this probability on a candidate that was not measured is named as one that may be faster than the answer."""


def promising(question: Question, known: Known, candidates: Candidates, pick: Pick) -> str | None:
    """That there is such a candidate, and how to measure it; None where there is none.

    Raises:
        CacheError: the cache cannot be read.
    """
    if pick.served or pick.source not in {Source.MEASURED, Source.LAYERS}:
        return None
    unknown = [label for label in candidates.allowed if not known.evidence.tells_of(label)]
    prediction = unknown and expect(question, known, [pick.label, *unknown])
    if not prediction:
        return None
    answer = prediction.of(pick.label)
    if answer is None:
        return None
    others = (row for row in prediction.predicted if row.candidate in unknown)
    likeliest = max(others, key=lambda row: row.p_best, default=None)
    if likeliest is None:  # none of them was ever timed anywhere
        return None
    pair = expect(question, known, [pick.label, likeliest.candidate])
    rival = (pair and pair.of(likeliest.candidate)) or likeliest
    times = _value(question, answer) / _value(question, rival)
    if rival.p_best < REAL or times <= 1 + BAND:
        return None
    factor = f"{times:.2g}" if times < 99.5 else f"{times:.0f}"
    return (
        f"{rival.candidate} was not measured; it is predicted to be {factor} times faster"
        f" (P {min(rival.p_best, 0.99):.2g}). Measure it: {question.calibrate_command()}"
    )


def _value(question: Question, row: Predicted) -> float:
    return row.ttft_s if question.demand.objective is Objective.TTFT else row.e2e_s
