"""The variances of the model of times, estimated by maximum likelihood."""

import math
from typing import TYPE_CHECKING, Final

from selector.predict.covariance import TERMS, Places, alike, hosts_and_works
from selector.predict.times import COEFFICIENTS, LAUNCH, Observed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STEPS: Final = 40
"""Of the iteration: the likelihood gains less than 1 in the next 20."""
_OF_ALL: Final = 10.0
"""Variance of what is common to everything: so large that it does not bind, fixed since one value tells no variance."""
_LEAST: Final = 1e-6
"""Smaller variances are left out: a standard deviation of a thousandth."""


def estimate(observed: Observed, *, steps: int = STEPS) -> dict[str, dict[str, float]]:
    """By coefficient and term, by the MM iteration for variance components.

    Each step multiplies a variance by sqrt((y' P V P y) / tr(P V)), where V is its matrix and P the inverse of the
    whole covariance: the likelihood never falls and no variance gets negative (Zhou, Hu, Zhou, Lange: MM algorithms for
    variance components models, 2019).
    """
    return {name: _estimate(observed, number, steps) for number, name in enumerate(COEFFICIENTS)}


def _estimate(observed: Observed, number: int, steps: int) -> dict[str, float]:
    import numpy as np

    told = np.flatnonzero(~np.isnan(observed.values[:, number]))
    values = observed.values[told, number] - observed.values[told, number].mean()
    noise = observed.noise[told]
    places = Places.of([observed.points[i] for i in told])
    matrices = _matrices(places)
    size = len(told)
    variances = np.full(len(TERMS), values.var() / len(TERMS))
    variances[0] = _OF_ALL
    launch = float(values.var()) / len(TERMS)
    for _ in range(steps):
        whole = (variances @ matrices).reshape(size, size)
        whole[np.diag_indices(size)] += launch * noise + 1e-8
        inverse = np.linalg.inv(whole)
        weights = inverse @ values
        explained = matrices @ np.outer(weights, weights).ravel()
        expected = matrices @ inverse.ravel()
        ratios = np.sqrt(np.maximum(explained, 0.0) / expected)
        ratios[0] = 1.0
        variances = variances * ratios
        launch *= math.sqrt(float(weights**2 @ noise) / float(np.diag(inverse) @ noise))
    kept = {term: float(f"{v:.3g}") for term, v in zip(TERMS, variances, strict=True) if v >= _LEAST}
    return {**kept, LAUNCH: float(f"{launch:.3g}")}


def _matrices(places: Places) -> "Array":
    """[term, points * points], in the order of TERMS."""
    import numpy as np

    hosts, works = hosts_and_works(places, places)
    rows, columns = places.pair[:, None], places.pair[None, :]
    return np.stack(
        [
            (same * (host * work)[rows, columns]).ravel()
            for same in alike(places, places)
            for host in hosts
            for work in works
        ]
    )
