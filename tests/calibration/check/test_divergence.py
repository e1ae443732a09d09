"""How far apart scores are, on rows small enough to reckon by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from calibration.check.divergence import FLOOR, below, distances, divergence, rows_of, strangers

HALVES = np.log([0.5, 0.5])
QUARTERS = np.log([0.25, 0.75])


def test_the_divergence_of_two_distributions() -> None:
    assert divergence(HALVES, HALVES) == 0.0
    assert divergence(HALVES, QUARTERS) == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    assert divergence(QUARTERS, HALVES) == pytest.approx(0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))


@pytest.mark.parametrize("shift", [-1000.0, 3.0, 1000.0])
def test_logits_differ_from_log_probabilities_by_a_constant_that_counts_for_nothing(shift: float) -> None:
    assert divergence(HALVES + shift, QUARTERS - shift) == pytest.approx(divergence(HALVES, QUARTERS))
    apart = distances(np.array([[QUARTERS]]), np.array([[QUARTERS + shift]]))
    assert (apart.kl[0, 0], apart.same[0, 0], apart.diff[0, 0]) == (pytest.approx(0.0), True, pytest.approx(0.0))


def rows(*scores: list[float]) -> "np.ndarray":
    """One prompt, a step for each list of scores."""
    return np.array([scores], dtype=np.float32)


def test_distances_of_each_position() -> None:
    expected = rows([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    scores = rows([0.0, 1.0, 2.0], [0.0, 4.0, 2.0])
    apart = distances(expected, scores)
    assert apart.same.tolist() == [[True, False]]
    assert apart.kl[0, 0] == 0.0
    assert apart.kl[0, 1] == pytest.approx(divergence(expected[0, 1].astype(float), scores[0, 1].astype(float)))
    # The scores differ by 0, 3 and 0, of which the common shift is 1: by 2 at most, in deviations of the reference's.
    assert apart.diff[0].tolist() == pytest.approx([0.0, 2.0 / np.std([0.0, 1.0, 2.0])])


def test_scores_of_padding_beyond_the_vocabulary_do_not_count() -> None:
    apart = distances(rows([0.0, 1.0, 2.0]), rows([0.0, 1.0, 2.0, 99.0]))
    assert (apart.kl.tolist(), apart.same.tolist(), apart.diff.tolist()) == ([[0.0]], [[True]], [[0.0]])


@pytest.mark.parametrize("rest", [-1e30, -1.5e30, -math.inf, math.nan])
def test_only_the_tokens_that_both_score_are_compared(rest: float) -> None:
    expected = rows([5.0, 1.0, 2.0])
    apart = distances(expected, rows([rest, 1.0, 2.0]))
    assert (apart.kl.tolist(), apart.diff.tolist()) == ([[0.0]], [[0.0]])
    assert apart.same.tolist() == [[False]]


def test_nothing_scored_is_infinitely_far() -> None:
    apart = distances(rows([0.0, 1.0], [0.0, 1.0]), rows([math.nan, math.nan], [0.0, 1.0]))
    assert apart.kl.tolist() == [[math.inf, 0.0]]
    assert apart.same.tolist() == [[False, True]]
    assert apart.diff.tolist() == [[math.inf, 0.0]]


def test_scores_may_be_as_far_apart_as_numbers_are() -> None:
    certain = np.array([0.0, 1000.0])
    assert divergence(certain, certain) == 0.0
    assert divergence(certain, certain[::-1]) == 1000.0


def test_strangers_are_the_rows_a_third_and_two_thirds_further_on() -> None:
    """Three positions: each is compared with both others."""
    steps = [[0.0, 1.0, 3.0], [1.0, 0.0, 0.5], [2.0, 2.5, 0.0]]
    expected, scores = rows(*steps), rows(*reversed(steps))
    right, got = expected.astype(float)[0], scores.astype(float)[0]
    by_hand = [
        (divergence(right[(at + 1) % 3], got[at]) + divergence(right[(at + 2) % 3], got[at])) / 2 for at in range(3)
    ]
    assert strangers(expected, scores)[0].tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize(("shape", "on"), [((2, 3), (2, 4)), ((2, 2), (1, 2)), ((1, 5), (1, 3))])
def test_strangers_are_of_other_prompts_where_there_are_any(shape: tuple[int, int], on: tuple[int, int]) -> None:
    draw = np.random.default_rng(5)
    expected, scores = (draw.normal(size=(*shape, 4)).astype(np.float32) for _ in range(2))
    right, got = expected.reshape(-1, 4).astype(float), scores.reshape(-1, 4).astype(float)
    by_hand = [
        sum(divergence(right[(at + further) % len(right)], got[at]) for further in on) / 2 for at in range(len(right))
    ]
    assert strangers(expected, scores).reshape(-1).tolist() == pytest.approx(by_hand)


def test_strangers_are_compared_on_the_tokens_that_are_scored() -> None:
    expected = rows([0.0, 1.0, 5.0], [0.0, 1.0, 7.0], [0.0, 1.0, 9.0])
    scores = rows([0.0, 1.0, math.nan], [0.0, 1.0, math.nan], [0.0, 1.0, math.nan])
    assert strangers(expected, scores).tolist() == [[0.0, 0.0, 0.0]]


def test_what_scores_nothing_is_infinitely_far_from_strangers() -> None:
    silent = rows([math.nan, math.nan], [0.0, 1.0], [1.0, 0.0])
    assert strangers(rows([0.0, 1.0], [0.5, 1.0], [1.0, 0.0]), silent)[0, 0] == math.inf


@pytest.mark.parametrize(
    ("token", "deviations"),
    [(2, 0.0), (1, 1.0 / np.std([0.0, 1.0, 2.0])), (0, 2.0 / np.std([0.0, 1.0, 2.0])), (3, math.inf), (4, math.inf)],
)
def test_how_far_below_the_best_a_token_is(token: int, deviations: float) -> None:
    assert below(np.array([0.0, 1.0, 2.0, FLOOR], dtype=np.float32), token) == pytest.approx(deviations)
    assert below(np.array([0.0, 1.0, 2.0], dtype=np.float32), -1) == math.inf


def test_rows_are_read_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    np.arange(12, dtype=np.float32).tofile(file)
    scores = rows_of(file, (2, 3))
    assert scores is not None
    assert scores.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert rows_of(None, (2, 3)) is None
    assert rows_of(file, None) is None
