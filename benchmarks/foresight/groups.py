"""Groups: what all candidates took for one cell of one model on one host; and what is left out to predict them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from calibration.registry import all_backends
from calibration.workload import Workload
from selector.predict.known.timing import Timing

LEAST_CANDIDATES = 4
"""In a group of fewer there is nothing to choose."""


class LeftOut(StrEnum):
    """What is not known when a group is predicted."""

    HOST_AND_MODEL = "neither host nor model known"
    HOST = "host not known"
    MODEL = "model not known"

    def keeps(self, timing: Timing, host: str, model: str) -> bool:
        """Whether a timing is known when `model` on `host` is predicted."""
        other_host, other_model = timing.host.identifier != host, timing.model != model
        match self:
            case LeftOut.HOST_AND_MODEL:
                return other_host and other_model
            case LeftOut.HOST:
                return other_host
            case LeftOut.MODEL:
                return other_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The truth: E2E by candidate, each the median of all its launches."""

    host: str
    model: str
    workload: Workload
    seconds: dict[str, float]
    mixture: bool
    """The model is a mixture of experts."""

    def of(self, labels: Sequence[str]) -> "Group":
        """The same of these candidates alone."""
        return Group(
            host=self.host,
            model=self.model,
            workload=self.workload,
            seconds={label: s for label, s in self.seconds.items() if label in labels},
            mixture=self.mixture,
        )

    def regret(self, first: Sequence[str]) -> float:
        """How many times longer the best of `first` takes than the best of all."""
        return min(self.seconds[label] for label in first) / min(self.seconds.values())


def groups_of(timings: Sequence[Timing]) -> list[Group]:
    """Every cell that four candidates and more were timed with."""
    seconds: dict[tuple[str, str, Workload], dict[str, float]] = {}
    mixtures = {t.model: t.work.experts > 0 for t in timings}
    for timing in timings:
        for workload, cell in timing.cells.items():
            if cell.tpot_s is not None:
                e2e = cell.ttft_s + (workload.output_tokens - 1) * cell.tpot_s
                seconds.setdefault((timing.host.identifier, timing.model, workload), {})[timing.label] = e2e
    return [
        Group(host=host, model=model, workload=workload, seconds=of, mixture=mixtures[model])
        for (host, model, workload), of in sorted(seconds.items())
        if len(of) >= LEAST_CANDIDATES
    ]


def lossless(labels: Sequence[str]) -> list[str]:
    """Those that are as precise as the model."""
    lossy = {f"{n}:{v.name}" for n, backend in all_backends().items() for v in backend.variants if v.lossy}
    return [label for label in labels if label not in lossy]
