"""How the onnxruntime backend draws a token: as likely as it is, within top_p, and again with the same seed."""

from collections import Counter

import numpy as np
import pytest

from calibration.backends.onnxruntime import sampling
from calibration.backends.onnxruntime.sampling import choose
from calibration.engine.streams import Request

LIKELY = np.array([0.05, 0.4, 0.25, 0.2, 0.1])
SCORES = (np.log(LIKELY) + 3).astype(np.float32)


def drawn(draws: int, *, seed: int = 0, temperature: float = 0.0, top_p: float = 1.0) -> dict[int, float]:
    """Token: the share of draws that it had."""
    request = Request(id="0", prompt=(1,), max_tokens=1, temperature=temperature, top_p=top_p)
    random = np.random.default_rng(seed)
    counts = Counter(choose(SCORES, request, random) for _ in range(draws))
    return {token: count / draws for token, count in counts.items()}


def test_temperature_0_takes_the_likeliest() -> None:
    assert drawn(20) == {1: 1.0}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_come_as_often_as_they_are_likely(temperature: float) -> None:
    expected = LIKELY ** (1 / temperature) / (LIKELY ** (1 / temperature)).sum()
    shares = drawn(20_000, temperature=temperature)
    assert [shares.get(token, 0.0) for token in range(5)] == pytest.approx(expected.tolist(), abs=0.015)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1e-9, {1}), (0.39, {1}), (0.41, {1, 2}), (0.66, {1, 2, 3}), (0.94, {1, 2, 3, 4})]
)
@pytest.mark.parametrize("sorted_first", [1, 2, 1024])
def test_top_p_keeps_the_fewest_that_have_it(
    top_p: float, kept: set[int], sorted_first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are sorted first."""
    monkeypatch.setattr(sampling, "_LIKELIEST", sorted_first)
    shares = drawn(4000, temperature=1.0, top_p=top_p)
    assert set(shares) == kept
    whole = sum(LIKELY[token] for token in kept)
    assert {token: share * whole for token, share in shares.items()} == pytest.approx(
        {token: LIKELY[token] for token in kept}, abs=0.04
    )


def test_a_temperature_near_0_is_greedy_and_warns_of_nothing() -> None:
    assert drawn(20, temperature=1e-310) == {1: 1.0}


def test_a_seed_draws_the_same_tokens() -> None:
    assert (
        drawn(50, seed=7, temperature=1.0) == drawn(50, seed=7, temperature=1.0) != drawn(50, seed=8, temperature=1.0)
    )
