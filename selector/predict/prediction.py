"""predict(): how long each candidate will take here, before it was measured, and which is probably the fastest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from calibration.cache.cache import Cache
from calibration.workload import Workload
from selector.host.spec import HostSpec
from selector.memo import Memo
from selector.model.spec import ModelSpec
from selector.predict.foresight import Foresight, foresight
from selector.predict.known.layers import host_of
from selector.predict.known.timing import Host
from selector.predict.known.work import Work
from selector.predict.times.outlook import Outlook


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
    chance: float | None = None
    """Probability that a launch meets the targets of a demand; None where it has none."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it."""
        return {
            "candidate": self.candidate,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "e2e_s": self.e2e_s,
            "ci90": list(self.ci90),
            "p_best": self.p_best,
            "chance": self.chance,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is expected of all candidates."""

    predicted: tuple[Predicted, ...]
    """The pick first; by e2e_s."""
    expected_regret: float
    """How many times longer the pick is expected to take than the fastest; 1 or more."""
    to_try: tuple[str, ...]
    """Labels in the order in which to measure them: the pick, then who most likely improves on those before."""
    hosts: tuple[str, ...]
    """Names of the devices that it was learned from."""
    models: tuple[str, ...]
    """Names of the models that it was learned from."""

    @property
    def pick(self) -> Predicted:
        return self.predicted[0]

    def of(self, label: str) -> Predicted | None:
        """What is expected of one candidate; None where nothing is."""
        return next((row for row in self.predicted if row.candidate == label), None)


def predict(
    spec: ModelSpec, host: HostSpec, labels: Sequence[str], workload: Workload, *, cache: Cache
) -> Prediction | None:
    """What to expect of the candidates `labels`, from launches of other models and on other hosts.

    The first call for a model and a host takes some tenths of a second, the next ones, for any workload, under 1 ms.

    Returns:
        None where nothing like the host or none of the candidates' backends was ever timed, for a quantised
        checkpoint, and for a machine that one does not hold if no host with as many cores was timed. Candidates of
        other backends are left out.

    Raises:
        CacheError: the cache cannot be read.
    """
    here, work = host_of(host), Work.of(spec)
    known = foresight(here, work, cache) if spec.quant.method == "none" else None
    if known is None or (host.what_if is not None and not _has_cores_of(known, host)):
        return None
    asked = known.known(labels)
    if not asked:
        return None
    key = asked, workload
    return _PREDICTIONS.answer((key, here, work), (known,), lambda: _predict(known, here, work, asked, workload))


def _has_cores_of(known: Foresight, host: HostSpec) -> bool:
    """The model of times does not look at the number of cores, and nobody can measure there what they change."""
    return host.cores in {timing.host.cores for timing in known.timings}


def _predict(known: Foresight, host: Host, work: Work, labels: tuple[str, ...], workload: Workload) -> Prediction:
    def outlook() -> Outlook:
        return Outlook.of(*known.at(host, [work], labels), known.launch_variance)

    expected = _OUTLOOKS.answer((host, work, labels), (known,), outlook).at(workload)
    p_best = expected.p_best
    order = [int(i) for i in expected.e2e_s.argsort(kind="stable")]
    return Prediction(
        predicted=tuple(
            Predicted(
                candidate=labels[i],
                ttft_s=float(expected.ttft_s[i]),
                tpot_s=float(expected.tpot_s[i]),
                e2e_s=float(expected.e2e_s[i]),
                ci90=(float(expected.low_s[i]), float(expected.high_s[i])),
                p_best=float(p_best[i]),
            )
            for i in order
        ),
        expected_regret=expected.regret(order[0]),
        to_try=tuple(labels[i] for i in expected.to_try()),
        hosts=known.hosts,
        models=known.models,
    )


_PREDICTIONS: Final = Memo(256)
_OUTLOOKS: Final = Memo(16)
"""Each holds 8 000 numbers for every candidate."""
