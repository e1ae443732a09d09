"""Foresight: the model of times conditioned on all that is known, remembered as long as the cache does not change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from calibration.cache.cache import Cache
from selector.memo import Memo
from selector.predict.known.layers import timings
from selector.predict.known.shipped import content
from selector.predict.known.timing import Host, Timing
from selector.predict.known.work import Work
from selector.predict.times.covariance import Point
from selector.predict.times.times import Observed, Times, launch_variance, widened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Foresight:
    """What is known, and the model that was conditioned on it."""

    timings: tuple[Timing, ...]
    times: Times

    launch_variance: float
    """Of the logarithm of what one launch takes, around the candidate's own time."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the devices of the timings."""
        return tuple(sorted({timing.host.device for timing in self.timings}))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models of the timings."""
        return tuple(sorted({timing.model for timing in self.timings}))

    def known(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Those of which any candidate of the same backend was timed."""
        backends = {timing.label.partition(":")[0] for timing in self.timings}
        return tuple(label for label in labels if label.partition(":")[0] in backends)

    def at(self, host: Host, works: Sequence[Work], labels: Sequence[str]) -> "tuple[Array, Array]":
        """Means and covariances of Times.at for each label with each work, label by label."""
        return self.times.at([Point(host=host, work=work, label=label) for label in labels for work in works])


def foresight(host: Host, work: Work, cache: Cache, *, beforehand: bool = False) -> Foresight | None:
    """What is known of hosts like this one; None where nothing is.

    Args:
        beforehand: without launches of this model on this host: a race counts those itself.

    Raises:
        CacheError: the cache cannot be read.
    """

    def make() -> Foresight | None:
        known = timings(host, work, cache)
        if beforehand:
            known = tuple(t for t in known if not _is_own(t, host, work))
        if not known:
            return None
        models = len({timing.work.fingerprint for timing in known})
        variances = widened(content()["variances"], models)
        return Foresight(known, Times.given(Observed.of(known), variances), launch_variance(variances))

    return _MEMO.answer((cache.token(), host, work, beforehand), (cache,), make)


def _is_own(timing: Timing, host: Host, work: Work) -> bool:
    """Whether it was taken on this host, of this model or of its first layers."""
    own = timing.host.identifier, timing.work.fingerprint, timing.work.dtype
    return own == (host.identifier, work.fingerprint, work.dtype)


_MEMO: Final = Memo(8)
"""A foresight holds some 20 MB."""
