"""Which hosts are not like others with such a device: by what the same candidates of the same models took on them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from calibration.noise import launch_cv, prior_cv
from calibration.race.bounds import BAND

SIGMAS: Final = 4.0
"""How far beyond its noise a ratio must be: of ten thousand hosts that are alike one is called another, at most."""
_MEDIAN_TO_MEAN: Final = 1.2533
"""Standard error of a median over that of a mean, of many normal values: sqrt(pi / 2)."""

Times = Mapping[str, Mapping[str, float]]
"""Model: candidate: what it took, seconds; of one host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How a host's times are beside those of the others of its group."""

    ratio: float
    """Its times over theirs, the median of all candidates and models that both have; 1 where there are none."""
    limit: float
    """A ratio between 1 / limit and limit is a tie, as far as the noise of launches lets one see."""
    models: int
    """On how many models that stands."""
    turned: Mapping[str, float]
    """Models whose two candidates stand otherwise than on the others, and by what ratio."""

    @property
    def alike(self) -> bool:
        """Whether what the others measured holds here."""
        return 1.0 / self.limit <= self.ratio <= self.limit and not self.turned


def likenesses(times: Mapping[str, Times], kind: str) -> dict[str, Likeness]:
    """Each host of a group beside the others.

    A host is compared with the median of the others, so that one that is not like them does not hide behind itself; of
    two hosts that differ both are told.

    Args:
        times: host: model: candidate: seconds.
        kind: Device.kind of the group, whose noise is believed until its launches show another.
    """
    logs: dict[tuple[str, str], dict[str, float]] = {}
    for host, models in times.items():
        for model, candidates in models.items():
            for label, seconds in candidates.items():
                logs.setdefault((model, label), {})[host] = math.log(seconds)
    beside = {host: _beside(logs, host, models) for host, models in times.items()}
    cv = _noise(beside, kind)
    return {host: _likeness(deviations, cv) for host, deviations in beside.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deviation:
    """Of one candidate of one model on one host: logarithm of its time over the median of the others'."""

    model: str
    candidate: str
    log_ratio: float
    others: int


def _beside(
    logs: Mapping[tuple[str, str], Mapping[str, float]], host: str, models: Mapping[str, Mapping[str, float]]
) -> list[_Deviation]:
    deviations = []
    for model, candidates in models.items():
        for label in candidates:
            column = logs[model, label]
            others = [value for other, value in column.items() if other != host]
            if others:
                log_ratio = column[host] - median(others)
                deviations.append(_Deviation(model=model, candidate=label, log_ratio=log_ratio, others=len(others)))
    return deviations


def _noise(beside: Mapping[str, Sequence[_Deviation]], kind: str) -> float:
    """Between single launches, as the group's own scatter shows it: what is left when each host's own ratio is out.

    Where a candidate was launched of several models, its own ratio is: an engine that is slower there is no noise.
    """
    scatter = []
    for deviations in (alike for of_host in beside.values() for alike in _by_candidate(of_host)):
        if len(deviations) > 1:
            own = median(one.log_ratio for one in deviations)
            # A difference to the median of n others varies by 1 + 1 / n of the variance of one launch, at least.
            scatter.append([math.exp((one.log_ratio - own) / math.sqrt(1.0 + 1.0 / one.others)) for one in deviations])
    return launch_cv(kind, scatter) if scatter else prior_cv(kind)


def _by_candidate(deviations: Sequence[_Deviation]) -> Iterator[Sequence[_Deviation]]:
    """Those of each candidate that has several; the others together."""
    count = Counter(one.candidate for one in deviations)
    for candidate in [candidate for candidate, times in count.items() if times > 1]:
        yield [one for one in deviations if one.candidate == candidate]
    yield [one for one in deviations if count[one.candidate] == 1]


def _likeness(deviations: Sequence[_Deviation], cv: float) -> Likeness:
    if not deviations:
        return Likeness(ratio=1.0, limit=1.0 + BAND, models=0, turned={})
    by_model: dict[str, list[_Deviation]] = {}
    for one in deviations:
        by_model.setdefault(one.model, []).append(one)
    middle = median(one.log_ratio for one in deviations)
    shared = sum(1.0 + 1.0 / one.others for one in deviations) / len(deviations)
    few = _MEDIAN_TO_MEAN if len(deviations) > 2 else 1.0
    error = few * cv * math.sqrt(shared / len(deviations))
    turned = {}
    for model, of_model in by_model.items():
        if len(of_model) < 2:
            continue
        first, second, *_ = of_model
        apart = first.log_ratio - second.log_ratio
        noise = cv * math.sqrt(2.0 + 1.0 / first.others + 1.0 / second.others)
        if abs(apart) > max(math.log1p(BAND), SIGMAS * noise):
            turned[model] = math.exp(apart)
    return Likeness(
        ratio=math.exp(middle),
        limit=math.exp(max(math.log1p(BAND), SIGMAS * error)),
        models=len(by_model),
        turned=turned,
    )
