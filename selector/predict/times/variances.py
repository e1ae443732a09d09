"""The variances of the model of times, estimated by maximum likelihood."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from selector.predict.times.covariance import HOSTS, LABELS, TERMS, WORKS, Places, alike, hosts_and_works
from selector.predict.times.times import COEFFICIENTS, LAUNCH, Observed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STEPS: Final = 40
"""Of the iteration; twenty more move no prediction by 1 %."""
_OF_ALL: Final = 10.0
"""Variance of what is common to everything: so large that it does not bind, fixed since one value tells no variance."""
_LEAST: Final = 1e-6
"""Smaller variances are left out: a standard deviation of a thousandth."""


def estimate(observed: Observed, names: Sequence[str] = COEFFICIENTS) -> dict[str, dict[str, float]]:
    """By coefficient (these alone) and term, by the MM iteration for variance components.

    Each step multiplies a variance by sqrt((y' P V P y) / tr(P V)), where V is its matrix and P the inverse of the
    whole covariance: the likelihood never falls and no variance gets negative (Zhou, Hu, Zhou, Lange: MM algorithms for
    variance components models, 2019).

    Where no model is a mixture of experts, nothing tells how far engines differ on one. They are then taken to differ
    as much as they do on all other models together.
    """
    return {name: _estimate(observed, COEFFICIENTS.index(name)) for name in names}


def _estimate(observed: Observed, number: int) -> dict[str, float]:
    import numpy as np

    told = np.flatnonzero(~np.isnan(observed.values[:, number]))
    values = observed.values[told, number] - observed.values[told, number].mean()
    noise = observed.noise[told]
    places = Places.of([observed.points[i] for i in told])
    hosts, works = hosts_and_works(places, places)
    same = alike(places, places)
    rows, columns = places.pair[:, None], places.pair[None, :]
    # Which pair of host and model a point belongs to: what terms share is summed by pairs before they are told apart.
    member = np.eye(len(places.host_of))[places.pair]
    shape = len(LABELS), len(HOSTS), len(WORKS)
    variances = np.full(shape, values.var() / len(TERMS))
    variances[0, 0, 0] = _OF_ALL
    launch = float(values.var()) / len(TERMS)
    for _ in range(STEPS):
        by_kind = np.einsum("chw,hij,wij->cij", variances, hosts, works, optimize=True)
        whole = sum(kind[rows, columns] * shared for kind, shared in zip(by_kind, same, strict=True))
        whole[np.diag_indices(len(told))] += launch * noise + 1e-8
        inverse = np.linalg.inv(whole)
        weights = inverse @ values
        explained, expected = (
            np.einsum(
                "cij,hij,wij->chw",
                np.stack([member.T @ (matrix * shared) @ member for shared in same]),
                hosts,
                works,
                optimize=True,
            )
            for matrix in (np.outer(weights, weights), inverse)
        )
        ratios = np.sqrt(np.divide(explained.clip(0.0), expected, out=np.ones(shape), where=expected > 0.0))
        ratios[0, 0, 0] = 1.0
        variances = variances * ratios
        launch *= math.sqrt(float(weights**2 @ noise) / float(np.diag(inverse) @ noise))
    if not works[3].any():
        variances[1:, 0, 3], variances[:, 1:, 3] = variances[1:, 0, 0], 0.0
    kept = {term: float(f"{v:.3g}") for term, v in zip(TERMS, variances.ravel(), strict=True) if v >= _LEAST}
    return {**kept, LAUNCH: float(f"{launch:.3g}")}
