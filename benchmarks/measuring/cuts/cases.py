"""Cases: the launches of one model on one host, of the candidates that were timed on several rungs."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.measurement import Measurement, Outcome
from calibration.race.ladder.beliefs import Beliefs, Noise, Observation
from calibration.rung import Rung
from calibration.workload import Workload
from selector.model.spec import ModelSpec
from selector.predict.beliefs import Deviations, beliefs_from
from selector.predict.foresight import Foresight, foresight
from selector.predict.known.layers import host_named
from selector.predict.known.timing import Host
from selector.predict.known.work import Work


@dataclass(frozen=True, kw_only=True)
class Case:
    """What was known of a model on a host before, and what was seen then."""

    model: str
    host: Host
    work: Work
    known: Foresight
    """Without the launches of this model on this host."""
    launches: tuple[Observation, ...]

    @property
    def labels(self) -> list[str]:
        return sorted({launch.label for launch in self.launches})

    @property
    def rungs(self) -> list[Rung]:
        return sorted({launch.rung for launch in self.launches})

    @property
    def cells(self) -> list[Workload]:
        return sorted({cell for launch in self.launches for cell in launch.times}, key=str)

    def log_likelihood(self, deviations: Deviations, noise: Noise) -> float:
        """Of the launches."""
        plain, *parts = self._parts
        shares = [
            square * (part.covariance - plain.covariance)
            for square, part in zip(_squares(deviations), parts, strict=True)
        ]
        return replace(plain, covariance=plain.covariance + sum(shares)).log_likelihood(self.launches, noise)

    @cached_property
    def _parts(self) -> list[Beliefs]:
        """By the model of times alone, and with each deviation as 1: covariances are linear in their squares."""
        ones = [
            Deviations(cut=cut, cell=cell, cut_cell=own)
            for cut, cell, own in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
        ]
        return [
            beliefs_from(self.known, self.host, self.work, self.labels, self.rungs, self.cells, deviations=one)
            for one in ones
        ]


def _squares(deviations: Deviations) -> list[float]:
    return [deviation**2 for deviation in astuple(deviations)]


def cases_of(outcomes: Iterable[Outcome], folder: str = "") -> list[Case]:
    """Of the models that were timed on several rungs.

    Args:
        folder: of a model that is not in the library: where its config is.

    Raises:
        ModelError: a model's config cannot be read.
    """
    groups: dict[tuple[str, str, str], list[Measurement]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement) and outcome.cells:
            groups.setdefault((outcome.identity.host, outcome.identity.device, outcome.model), []).append(outcome)
    return [case for key, launches in groups.items() if (case := _case(*key, launches, folder))]


def _case(host: str, device: str, model: str, launches: Sequence[Measurement], folder: str) -> Case | None:
    cut = {x.candidate.label for x in launches if x.identity.cut}
    several = cut & {x.candidate.label for x in launches if not x.identity.cut}
    if not several:
        return None
    spec = ModelSpec.read(folder or model)
    rounds: dict[tuple[str, int], int] = {}
    observed = [
        Observation(
            label=launch.candidate.label,
            rung=Rung.parse(launch.identity.cut) if launch.identity.cut else Rung(layers=spec.layers, of=spec.layers),
            round=rounds.setdefault((launch.calibration_id, launch.round), len(rounds)),
            times={cell.workload: (cell.ttft_s, cell.tpot_s) for cell in launch.cells},
        )
        for launch in launches
        if launch.candidate.label in several
    ]
    here, work = host_named(host, device), Work.of(spec)
    with tempfile.TemporaryDirectory() as empty, Cache.open(Path(empty) / "cache.db") as cache:
        known = foresight(here, work, cache, beforehand=True)
    if known is None:
        return None
    return Case(model=model, host=here, work=work, known=known, launches=tuple(observed))
