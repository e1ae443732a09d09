"""The fit of what a race believes of few layers: which launches count, and that it finds what was planted."""

import itertools
from pathlib import Path

import pytest

from benchmarks.measuring.cuts.cases import Case, cases_of
from benchmarks.measuring.cuts.cuts import likelihood
from calibration.race.ladder.beliefs import Noise, Observation
from selector.predict.beliefs import Deviations, beliefs_from
from selector.publish.hosts.host_file import read

ROOT = Path(__file__).resolve().parents[3]
QUIET = Noise(launch_cv=0.01, cell_cv=0.01, round_cv=0.01)


@pytest.fixture(scope="module")
def case() -> Case:
    outcomes = read(ROOT / "results" / "hosts" / "ac3e84e793a4.json").outcomes
    (found,) = [case for case in cases_of(outcomes) if case.model == "shape:smollm2-360m"]
    return found


def test_who_was_timed_on_one_rung_alone_says_nothing(case: Case) -> None:
    assert len(case.rungs) == 3
    assert case.rungs[-1].whole
    assert not case.rungs[0].whole
    for label in case.labels:
        assert len({x.rung for x in case.launches if x.label == label}) > 1
    assert not [label for label in case.labels if label.startswith("llamacpp")]


def test_deviations_are_parts_of_one_covariance(case: Case) -> None:
    deviations = Deviations(cut=0.07, cell=0.11, cut_cell=0.03)
    whole = beliefs_from(case.known, case.host, case.work, case.labels, case.rungs, case.cells, deviations=deviations)
    assert case.log_likelihood(deviations, QUIET) == pytest.approx(whole.log_likelihood(case.launches, QUIET))


@pytest.mark.parametrize(("cell", "cut_cell"), [(0.20, 0.02), (0.02, 0.20)])
def test_what_was_planted_is_the_most_likely(case: Case, cell: float, cut_cell: float) -> None:
    import numpy as np

    planted = Deviations(cut=0.02, cell=cell, cut_cell=cut_cell)
    beliefs = beliefs_from(case.known, case.host, case.work, case.labels, case.rungs, case.cells, deviations=planted)
    drawn = np.random.default_rng(1).multivariate_normal(beliefs.mean.ravel(), beliefs.covariance, method="cholesky")
    seconds = np.exp(drawn.reshape(beliefs.mean.shape))
    launches = tuple(
        Observation(
            label=label,
            rung=rung,
            round=1,
            times={c: (seconds[i, j, k, 0], seconds[i, j, k, 1]) for k, c in enumerate(beliefs.cells)},
        )
        for (i, label), (j, rung) in itertools.product(enumerate(beliefs.labels), enumerate(beliefs.rungs))
    )
    drawn_case = Case(model=case.model, host=case.host, work=case.work, known=case.known, launches=launches)
    tried = [Deviations(cut=0.02, cell=a, cut_cell=b) for a in (0.02, 0.20) for b in (0.02, 0.20)]
    assert max(tried, key=lambda one: likelihood([drawn_case], one, QUIET)) == planted
