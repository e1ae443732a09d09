"""The next token from its scores, as a request asks."""

from typing import Any

from calibration.engine.streams import Request

_LIKELIEST = 1024
"""So many are sorted for top_p first, and all only where they do not have it: sorting a vocabulary takes as long as a
step of a small model."""


def choose(scores: Any, request: Request, random: Any) -> int:
    """The likeliest token, or one that is drawn.

    Args:
        scores: [vocab] logits.
        random: a numpy.random.Generator.
    """
    import numpy as np

    if request.temperature == 0:
        return int(scores.argmax())
    with np.errstate(over="ignore"):
        likely = np.exp((scores.astype(np.float64) - scores.max()) / request.temperature)
    tokens = None
    if request.top_p < 1:
        tokens = _most_likely(likely, request.top_p * likely.sum())
        likely = likely[tokens]
    cumulated = likely.cumsum()
    place = int(np.searchsorted(cumulated, random.random() * cumulated[-1], side="right"))
    return place if tokens is None else int(tokens[place])


def _most_likely(likely: Any, share: float) -> Any:
    """The fewest tokens that have this share together, the likeliest first."""
    import numpy as np

    for count in (min(_LIKELIEST, len(likely)), len(likely)):
        tokens = np.argpartition(-likely, count - 1)[:count]
        tokens = tokens[np.argsort(-likely[tokens])]
        cumulated = likely[tokens].cumsum()
        if cumulated[-1] >= share:
            break
    return tokens[: int(np.searchsorted(cumulated, share)) + 1]


def random_of(request: Request) -> Any:
    """The numpy.random.Generator that a request's tokens are drawn from."""
    import numpy as np

    # numpy takes no negative seed.
    return np.random.default_rng(None if request.seed is None else request.seed % 2**64)
