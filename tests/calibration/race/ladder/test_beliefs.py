"""What is believed of times before and during a race."""

import math

import numpy as np
import pytest

from calibration.race.ladder.beliefs import Beliefs, Noise, Observation
from calibration.rung import Rung
from calibration.workload import Workload

FEW, WHOLE = Rung(layers=2, of=32), Rung(layers=32, of=32)
PP64, PP512 = Workload(prompt_tokens=64, output_tokens=32), Workload(prompt_tokens=512, output_tokens=32)


def vague() -> Beliefs:
    return Beliefs.vague(["a", "b", "c"], [FEW, WHOLE], [PP64, PP512])


def seen(label: str, times: float, rung: Rung = WHOLE, round_number: int = 1) -> Observation:
    """A launch of a candidate so many times slower than one that steps in 0.02 s."""
    cells = {PP64: (0.1 * times, 0.02 * times), PP512: (0.8 * times, 0.02 * times)}
    return Observation(label=label, rung=rung, round=round_number, times=cells)


def ratio(beliefs: Beliefs, one: str, other: str, rung: Rung = WHOLE) -> tuple[float, float]:
    """Of the TPOTs of two candidates after 512 tokens: median and standard deviation of the logarithm."""
    first, second = (beliefs.place(label, rung, PP512, 1) for label in (one, other))
    mean, covariance = beliefs.mean.ravel(), beliefs.covariance
    variance = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
    return math.exp(mean[first] - mean[second]), math.sqrt(variance)


def test_where_nothing_is_known_all_are_alike_and_anything_is_possible() -> None:
    middle, sd = ratio(vague(), "a", "b")
    assert middle == pytest.approx(1.0)
    assert 0.6 < sd < 1.2
    assert np.linalg.eigvalsh(vague().covariance).min() > -1e-9


def test_a_launch_tells_of_its_candidate_and_little_of_the_ratio_of_others() -> None:
    beliefs = vague().given([seen("a", 1), seen("b", 2)])
    middle, sd = ratio(beliefs, "a", "b")
    assert middle == pytest.approx(0.5, rel=0.05)
    assert sd == pytest.approx(0.12 * math.sqrt(2), rel=0.2)
    assert ratio(beliefs, "a", "c")[1] > 0.5


def test_a_few_layers_tell_of_the_whole_model_less_than_of_themselves() -> None:
    beliefs = vague().given([seen("a", 0.1, FEW), seen("b", 0.2, FEW)])
    (few, few_sd), (whole, whole_sd) = ratio(beliefs, "a", "b", FEW), ratio(beliefs, "a", "b")
    assert few == pytest.approx(0.5, rel=0.05)
    assert whole == pytest.approx(0.5, rel=0.1)
    assert few_sd < whole_sd < 0.6


def test_more_launches_leave_less_doubt() -> None:
    rounds = [seen(label, times, WHOLE, n) for n in (1, 2, 3) for label, times in (("a", 1.0), ("b", 1.1))]
    sds = [ratio(vague().given(rounds[: 2 * n]), "a", "b")[1] for n in (1, 2, 3)]
    assert sds == sorted(sds, reverse=True)
    assert sds[0] / sds[2] == pytest.approx(math.sqrt(3), rel=0.15)


def test_a_drift_between_rounds_hits_both_sides_of_a_ratio() -> None:
    together = [seen("a", 1, WHOLE, 1), seen("b", 1.2, WHOLE, 1), seen("a", 1.5, WHOLE, 2), seen("b", 1.8, WHOLE, 2)]
    middle, within = ratio(vague().given(together), "a", "b")
    assert middle == pytest.approx(1 / 1.2, rel=0.03)
    assert within < ratio(vague().given([seen("a", 1, WHOLE, 1), seen("b", 1.2, WHOLE, 2)]), "a", "b")[1]


def test_a_gpu_of_ones_own_is_believed_sooner() -> None:
    launches = [seen("a", 1), seen("b", 1.1)]
    shared, own = (ratio(vague().given(launches, Noise.of(kind)), "a", "b")[1] for kind in ("cpu", "cuda"))
    assert own < shared / 3


def test_no_launch_changes_nothing_and_one_token_has_no_tpot() -> None:
    assert vague().given([]).mean.tolist() == vague().mean.tolist()
    one = Observation(label="a", rung=WHOLE, round=1, times={PP64: (0.1, None)})
    beliefs = vague().given([one])
    assert beliefs.mean[0, 1, 0, 0] == pytest.approx(math.log(0.1), abs=0.05)


def test_what_it_knows_nothing_of_it_says() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        vague().given([seen("x", 1)])
