"""predict(): how long each candidate will take here, before it was measured, and which is probably the fastest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from calibration.cache.cache import Cache
from calibration.workload import Workload
from selector.host.spec import HostSpec
from selector.memo import Memo
from selector.model.spec import ModelSpec
from selector.predict.foresight import Foresight, foresight
from selector.predict.layers import host_of
from selector.predict.times import basis
from selector.predict.timing import Host
from selector.predict.work import Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SAMPLES: Final = 1000
"""Of the joint posterior: a P(best) of 0.5 is then known to 0.016. They are the same ones in every process."""
_SEED: Final = 17
_Z90: Final = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A candidate's expected times for a workload; seconds."""

    candidate: str
    """Its label."""
    ttft_s: float
    tpot_s: float
    e2e_s: float
    ci90: tuple[float, float]
    """Of e2e_s: what one launch will take, with 90 %."""
    p_best: float
    """Probability that no other candidate is faster."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it."""
        return {
            "candidate": self.candidate,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "e2e_s": self.e2e_s,
            "ci90": list(self.ci90),
            "p_best": self.p_best,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is expected of all candidates."""

    predicted: tuple[Predicted, ...]
    """The pick first, which has the least expected regret; the others by e2e_s."""
    expected_regret: float
    """How many times longer the pick is expected to take than the fastest; 1 or more."""
    hosts: tuple[str, ...]
    """Names of the devices that it was learned from."""
    models: tuple[str, ...]
    """Names of the models that it was learned from."""

    @property
    def pick(self) -> Predicted:
        return self.predicted[0]


def predict(
    spec: ModelSpec, host: HostSpec, labels: Sequence[str], workload: Workload, *, cache: Cache
) -> Prediction | None:
    """What to expect of the candidates `labels`, from launches of other models and on other hosts.

    The first call for a model and a host takes some tenths of a second, the next ones, for any workload, under 1 ms.

    Returns:
        None where nothing like the host or none of the candidates' backends was ever timed. Candidates of other
        backends are left out.

    Raises:
        CacheError: the cache cannot be read.
    """
    here, work = host_of(host), Work.of(spec)
    known = foresight(here, work, cache)
    if known is None:
        return None
    asked = known.known(labels)
    if not asked:
        return None
    key = asked, workload
    return _PREDICTIONS.answer((key, here, work), (known,), lambda: _predict(known, here, work, asked, workload))


def _predict(known: Foresight, host: Host, work: Work, labels: tuple[str, ...], workload: Workload) -> Prediction:
    import numpy as np

    means, roots = _COEFFICIENTS.answer(
        (host, work, labels), (known,), lambda: _coefficients(known, host, work, labels)
    )
    logs, samples = [], []
    for phase in (0, 1):
        at = np.array(basis(workload, phase))
        part = slice(4 * phase, 4 * phase + 4)
        logs.append(at @ means[part])
        samples.append(logs[-1] + np.einsum("k,ksn->sn", at, roots[part]))
    steps = workload.output_tokens - 1
    e2e, sampled = _e2e(logs, steps), _e2e(samples, steps)
    fastest = sampled.min(axis=1)
    regrets = np.log(sampled / fastest[:, None]).mean(axis=0)
    best = (sampled <= fastest[:, None]).mean(axis=0)
    spread = np.sqrt(np.log(sampled).var(axis=0) + known.launch_variance)
    first = int(regrets.argmin())
    order = [first, *(i for i in map(int, e2e.argsort()) if i != first)]
    return Prediction(
        predicted=tuple(
            Predicted(
                candidate=labels[i],
                ttft_s=float(np.exp(logs[0][i])),
                tpot_s=float(np.exp(logs[1][i])) if steps else 0.0,
                e2e_s=float(e2e[i]),
                ci90=(float(e2e[i] * np.exp(-_Z90 * spread[i])), float(e2e[i] * np.exp(_Z90 * spread[i]))),
                p_best=float(best[i]),
            )
            for i in order
        ),
        expected_regret=math.exp(float(regrets[first])),
        hosts=known.hosts,
        models=known.models,
    )


def _e2e(logs: "Sequence[Array]", steps: int) -> "Array":
    import numpy as np

    ttft: Array = np.exp(logs[0])
    return ttft + steps * np.exp(logs[1]) if steps else ttft


def _coefficients(known: Foresight, host: Host, work: Work, labels: tuple[str, ...]) -> "tuple[Array, Array]":
    """Means [8, label] of the eight numbers, and samples [8, sample, label] of how far they are from them."""
    import numpy as np

    means, covariances = known.at(host, [work], labels)
    normal = np.random.default_rng(_SEED).standard_normal((len(means), SAMPLES // 2, len(labels)))
    normal = np.concatenate([normal, -normal], axis=1)
    roots = np.linalg.cholesky(covariances + _NUGGET * np.eye(len(labels)))
    return means, normal @ roots.transpose(0, 2, 1)


_NUGGET: Final = 1e-9
_PREDICTIONS: Final = Memo(256)
_COEFFICIENTS: Final = Memo(16)
"""Each holds 8 000 numbers for every candidate."""
