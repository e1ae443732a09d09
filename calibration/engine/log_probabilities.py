"""Log-probabilities of a step as a served request is told them, from its scores. Needs numpy, as every engine does."""

from typing import Any

from calibration.engine.streams import TokenScores


def step_scores(scores: Any, chosen: int, count: int) -> TokenScores:
    """The log-probabilities of the chosen token and of the `count` likeliest.

    Args:
        scores: [vocab] logits or log-probabilities: any buffer of floats.

    >>> step_scores([0.0, 0.0], 1, 2)
    TokenScores(chosen=-0.6931471805599453, likeliest=((0, -0.6931471805599453), (1, -0.6931471805599453)))
    """
    import numpy as np

    row = np.asarray(scores, dtype=np.float64)
    row = row - row.max()
    row -= np.log(np.exp(row).sum())
    best = np.argpartition(-row, min(count, len(row)) - 1)[:count]
    # The lower token first where two are as likely.
    best = best[np.lexsort((best, -row[best]))]
    return TokenScores(chosen=float(row[chosen]), likeliest=tuple((int(token), float(row[token])) for token in best))
