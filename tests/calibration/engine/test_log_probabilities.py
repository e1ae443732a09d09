"""Log-probabilities of a step: the chosen token's and the likeliest's."""

import math

import numpy as np
import pytest

from calibration.engine.log_probabilities import step_scores


def test_scores_need_not_be_normalised() -> None:
    likely = np.log(np.array([0.1, 0.6, 0.3]))
    told = step_scores((likely + 700).astype(np.float32), 2, 2)
    assert told.chosen == pytest.approx(math.log(0.3), abs=1e-4)
    assert [token for token, _ in told.likeliest] == [1, 2]
    assert [score for _, score in told.likeliest] == pytest.approx([math.log(0.6), math.log(0.3)], abs=1e-4)


def test_the_lower_token_comes_first_where_two_are_as_likely() -> None:
    assert [token for token, _ in step_scores([1.0, 2.0, 2.0, 0.0, 2.0], 0, 3).likeliest] == [1, 2, 4]


def test_more_than_there_are_are_all_there_are() -> None:
    assert len(step_scores([1.0, 2.0], 0, 20).likeliest) == 2
