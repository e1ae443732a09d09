"""beliefs_of(): what a race believes of its candidates before their first launch."""

from collections.abc import Sequence
from dataclasses import dataclass

from calibration.cache.cache import Cache
from calibration.race.ladder.beliefs import PHASES, Beliefs
from calibration.rung import Rung
from calibration.workload import Workload
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.predict.foresight import Foresight, foresight
from selector.predict.known.layers import host_of
from selector.predict.known.timing import Host
from selector.predict.known.work import Work
from selector.predict.times.times import basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviations:
    """How far times are from what the model of times says of them; standard deviations of logarithms.

    The defaults are the most likely ones by `python -m benchmarks.measuring.cuts` over launches of six models, dense
    ones, one with windows and a mixture, that were timed on a few layers and whole.
    """

    cut: float = 0.04
    """With each halving of the layers, of a candidate in all cells."""
    cell: float = 0.08
    """Of a candidate in a cell, on every rung: the corners of the grid do not lie on one bilinear surface."""
    cut_cell: float = 0.05
    """Of a candidate in a cell, on one rung."""


DEVIATIONS = Deviations()


def beliefs_of(
    spec: ModelSpec,
    host: HostSpec,
    labels: Sequence[str],
    rungs: Sequence[Rung],
    cells: Sequence[Workload],
    *,
    cache: Cache,
) -> Beliefs | None:
    """The joint Gaussian of the log times of `labels` on all rungs and cells.

    What is believed of one candidate on one rung is tied to the same candidate on the others, so that a launch of a few
    layers moves what is believed of the whole model.

    Launches of this model on this host are not in it: the race counts them.

    Returns:
        None where nothing like the host, or not one of the candidates' backends, was ever timed, and for a quantised
        checkpoint. A candidate of another backend is believed to be as an average one, within wide limits.

    Raises:
        CacheError: the cache cannot be read.
    """
    here, work = host_of(host), Work.of(spec)
    known = foresight(here, work, cache, beforehand=True) if spec.quant.method == "none" else None
    return beliefs_from(known, here, work, labels, rungs, cells) if known and known.known(labels) else None


def beliefs_from(
    known: Foresight,
    here: Host,
    work: Work,
    labels: Sequence[str],
    rungs: Sequence[Rung],
    cells: Sequence[Workload],
    deviations: Deviations = DEVIATIONS,
) -> Beliefs:
    """The same, from a model of times that was conditioned before."""
    import numpy as np

    works = [work if rung.whole else work.cut(rung.layers) for rung in rungs]
    means, covariances = known.at(here, works, labels)
    count, points = len(cells), len(labels) * len(rungs)
    mean = np.empty((points, count, PHASES))
    covariance = np.zeros((points, count, PHASES, points, count, PHASES))
    halvings = np.log2([rung.of / rung.layers for rung in rungs])
    # A shallower rung is on the way from the whole model: what moved a deeper one has moved it as well.
    along = np.minimum(halvings[:, None], halvings[None, :])
    of_label = np.eye(len(labels))
    of_cut = deviations.cut**2 * np.kron(of_label, along)
    of_cell = deviations.cell**2 * np.kron(of_label, np.ones_like(along)) + deviations.cut_cell**2 * np.eye(points)
    for phase in range(PHASES):
        at = np.array([basis(cell, phase) for cell in cells])
        part = slice(4 * phase, 4 * phase + 4)
        mean[:, :, phase] = (at @ means[part]).T
        of_cells = np.einsum("ck,dk,kij->icjd", at, at, covariances[part]) + of_cut[:, None, :, None]
        of_cells += np.einsum("ij,cd->icjd", of_cell, np.eye(count))
        covariance[:, :, phase, :, :, phase] = of_cells
    size = points * count * PHASES
    return Beliefs(
        labels=tuple(labels),
        rungs=tuple(rungs),
        cells=tuple(cells),
        mean=mean.reshape(len(labels), len(rungs), count, PHASES),
        covariance=covariance.reshape(size, size),
    )
