"""How far scores are from the reference's at each position, and how far from its scores at other positions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FLOOR = -1e30
"""A score at or below it means that the engine does not score this token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Of scores from the reference's; arrays [prompt, step]."""

    kl: "NDArray[np.float64]"
    """Kullback-Leibler divergence of the distribution from the reference's, nats; inf where nothing was scored."""
    same: "NDArray[np.bool_]"
    """Both have the same best token."""
    diff: "NDArray[np.float64]"
    """Largest difference of a score, in standard deviations of the reference's scores; a shift of all of them does not
    count."""


def rows_of(file: Path | None, shape: tuple[int, int] | None) -> "NDArray[np.float32] | None":
    """Scores [prompt, step, vocab], left on the disk: a calibration's parent stays small."""
    import numpy as np

    if file is None or shape is None:
        return None
    return np.memmap(file, dtype=np.float32, mode="r").reshape(-1, *shape)


def distances(expected: "NDArray[np.float32]", scores: "NDArray[np.float32]") -> Distances:
    """Of `scores` from `expected`, both [prompt, step, vocab]; `scores` may hold padding beyond the vocabulary."""
    import numpy as np

    shape = expected.shape[:2]
    kl, same, diff = np.full(shape, np.inf), np.zeros(shape, dtype=bool), np.full(shape, np.inf)
    for at in np.ndindex(*shape):
        right, got, scored = _both(expected[at], scores[at])
        if not scored.any():
            continue
        kl[at] = divergence(right[scored], got[scored])
        same[at] = right.argmax() == np.where(scored, got, -np.inf).argmax()
        apart = got[scored] - right[scored]
        diff[at] = np.abs(apart - apart.mean()).max() / right.std()
    return Distances(kl=kl, same=same, diff=diff)


def strangers(expected: "NDArray[np.float32]", scores: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Mean divergence [prompt, step] of each row from the reference's rows at two other positions.

    An engine that computes something unrelated is as far from the reference's row at its own position.
    """
    import numpy as np

    places = list(np.ndindex(*expected.shape[:2]))
    kl = np.full(expected.shape[:2], np.inf)
    for number, at in enumerate(places):
        # Rows a third and two thirds of the way on: of other prompts, where there are any.
        others = [places[(number + len(places) * k // 3) % len(places)] for k in (1, 2)]
        divergences = []
        for other in others:
            right, got, scored = _both(expected[other], scores[at])
            if scored.any():
                divergences.append(divergence(right[scored], got[scored]))
        kl[at] = np.mean(divergences) if divergences else np.inf
    return kl


def divergence(right: "NDArray[np.float64]", got: "NDArray[np.float64]") -> float:
    """KL(right || got) of two rows of scores of the same tokens, nats; both are normalised over these tokens."""
    import numpy as np

    p, q = _log_softmax(right), _log_softmax(got)
    return float((np.exp(p) * (p - q)).sum())


def below(right: "NDArray[np.float32]", token: int) -> float:
    """How far a token is below the best of a row, in standard deviations of the row's scores; inf where it has none."""
    import numpy as np

    row = right.astype(np.float64)
    scored = row[np.isfinite(row) & (row > FLOOR)]
    if not 0 <= token < len(row) or not row[token] > FLOOR:
        return float("inf")
    return float((scored.max() - row[token]) / scored.std())


def _both(
    right: "NDArray[np.float32]", got: "NDArray[np.float32]"
) -> "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]":
    """Two rows of one length, and which tokens the second scores.

    An engine that gives only its best k scores leaves the rest at -inf (or below FLOOR): both sides are then compared
    over the tokens that it scored.
    """
    import numpy as np

    shared = got[: len(right)].astype(np.float64)
    return right.astype(np.float64), shared, np.isfinite(shared) & (shared > FLOOR)


def _log_softmax(row: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    shifted = row - row.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
