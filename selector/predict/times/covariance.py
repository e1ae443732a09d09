"""Covariance: how alike the times of two candidates are, on two hosts, with two models; a sum of products.

(one for all hosts | by host | alike hosts) x (for all models | by model | alike models | for mixtures of experts) x
(for all candidates | by candidate | by backend | by precision | by backend and precision): 60 terms, each with a
variance. A candidate's precision is its own or, where it takes the checkpoint's, the model's.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from selector.predict.known.timing import Host
from selector.predict.known.traits import host_traits, mixture, precision, work_traits
from selector.predict.known.work import Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.intp]

HOSTS: Final = ("", "host", "alike hosts")
WORKS: Final = ("", "model", "alike models", "mixtures")
LABELS: Final = ("", "candidate", "backend", "precision", "backend at a precision")
TERMS: Final = tuple(
    " x ".join(filter(None, (label, host, work))) or "all" for label in LABELS for host in HOSTS for work in WORKS
)
"""Names of the variances, in the order of their axes: candidate, host, model."""

_SHAPE: Final = len(LABELS), len(HOSTS), len(WORKS)
_HOST_SCALE: Final = 4.0
"""Hosts that differ in four traits are alike by 1 / e."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A candidate on a host with a model, whole or cut."""

    host: Host
    work: Work
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Points by the numbers of their hosts with models, candidates, backends and precisions."""

    hosts: tuple[Host, ...]
    works: tuple[Work, ...]
    host_of: "Whole"
    """Of each pair of host and model that occurs."""
    work_of: "Whole"
    pair: "Whole"
    """Of each point."""
    kinds: "tuple[Whole, ...]"
    """Of each point: its candidate, backend, precision and the last two, as numbers that are equal where these are."""

    @classmethod
    def of(cls, points: Sequence[Point]) -> Self:
        """Number what the points consist of."""
        import numpy as np

        hosts = tuple({p.host.identifier: p.host for p in points}.values())
        works = tuple(dict.fromkeys(p.work for p in points))
        host_number = {m.identifier: number for number, m in enumerate(hosts)}
        work_number = {work: number for number, work in enumerate(works)}
        pairs = {(host_number[p.host.identifier], work_number[p.work]): None for p in points}
        pair_number = {pair: number for number, pair in enumerate(pairs)}
        return cls(
            hosts,
            works,
            np.array([host for host, _ in pairs], dtype=np.intp),
            np.array([work for _, work in pairs], dtype=np.intp),
            np.array([pair_number[host_number[p.host.identifier], work_number[p.work]] for p in points], dtype=np.intp),
            (
                _numbers([p.label for p in points]),
                _numbers([p.label.partition(":")[0] for p in points]),
                _numbers([precision(p.label, p.work) for p in points]),
                _numbers([(p.label.partition(":")[0], precision(p.label, p.work)) for p in points]),
            ),
        )


def alike(left: Places, right: Places) -> "list[Array]":
    """By the order of LABELS: which points share them; the first is 1 everywhere."""
    import numpy as np

    same = [(a[:, None] == b[None, :]).astype(np.float64) for a, b in zip(left.kinds, right.kinds, strict=True)]
    return [np.ones_like(same[0]), *same]


def hosts_and_works(left: Places, right: Places) -> "tuple[Array, Array]":
    """[3, pairs, pairs] and [4, pairs, pairs]: the covariances over hosts and over models, of unit variance."""
    import numpy as np

    traits_left, traits_right = (np.array([host_traits(m) for m in p.hosts]) for p in (left, right))
    distance = ((traits_left[:, None] - traits_right[None, :]) ** 2).sum(-1)
    same_host = np.array([[float(a.identifier == b.identifier) for b in right.hosts] for a in left.hosts])
    hosts = np.stack([np.ones_like(distance), same_host, np.exp(-distance / _HOST_SCALE)])
    works_left, works_right = (np.array([work_traits(w) for w in p.works]) for p in (left, right))
    same_work = np.array([[float(a.fingerprint == b.fingerprint) for b in right.works] for a in left.works])
    mixtures = np.outer([mixture(w) for w in left.works], [mixture(w) for w in right.works])
    works = np.stack([np.ones_like(same_work), same_work, works_left @ works_right.T / works_left.shape[1], mixtures])
    return (
        hosts[:, left.host_of[:, None], right.host_of[None, :]],
        works[:, left.work_of[:, None], right.work_of[None, :]],
    )


def covariance(left: Places, right: Places, variances: "Sequence[Array]") -> "list[Array]":
    """For each set of variances (in the order of TERMS) the covariance of all points with all others."""
    import numpy as np

    hosts, works = hosts_and_works(left, right)
    same = alike(left, right)
    rows, columns = left.pair[:, None], right.pair[None, :]
    sums = []
    for each in variances:
        by_kind = np.einsum("chw,hij,wij->cij", each.reshape(_SHAPE), hosts, works, optimize=True)
        sums.append(sum(kind[rows, columns] * shared for kind, shared in zip(by_kind, same, strict=True)))
    return sums


def _numbers(values: Sequence[Hashable]) -> "Whole":
    """Numbers that are equal where the values are, in all calls of one process."""
    import numpy as np

    return np.array([_NUMBERS.setdefault(value, len(_NUMBERS)) for value in values], dtype=np.intp)


_NUMBERS: Final[dict[Hashable, int]] = {}
