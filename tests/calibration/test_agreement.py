"""The verdict on an output: right within rounding, lossy where allowed, wrong where something else was computed."""

import random
from pathlib import Path

import numpy as np
import pytest

from calibration.agreement import (
    FLOOR,
    GROUPS,
    NEW_TOKENS,
    PROMPT_TOKENS,
    Answers,
    compare,
    fixed_prompts,
    precision_class,
)
from calibration.measurement import Agreement, OutputVerdict

VOCAB = 50


def answers(folder: Path, rows: "np.ndarray", tokens: "np.ndarray", name: str = "rows") -> Answers:
    """Answers of an engine with these scores [prompt, NEW_TOKENS, VOCAB] and paths [prompt, NEW_TOKENS]."""
    file = folder / f"{name}.f32"
    rows.astype(np.float32).tofile(file)
    paths = tuple(tuple(tuple(int(t) for t in tokens[p]) for p in group) for group in GROUPS)
    return Answers(tokens=paths, rows_file=file, row_shape=(NEW_TOKENS, VOCAB))


@pytest.fixture
def scores() -> "np.ndarray":
    return np.random.default_rng(3).normal(0, 2, (len(PROMPT_TOKENS), NEW_TOKENS, VOCAB))


def test_equal_scores_are_right(tmp_path: Path, scores: "np.ndarray") -> None:
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    other = answers(
        tmp_path, scores + 3.0, scores.argmax(-1), "b"
    )  # log-probabilities differ from logits by a constant
    found = compare(one, other, "fp32")
    assert (found.verdict, found.top1, found.detail) == (OutputVerdict.RIGHT, 1.0, "4 of 4 greedy paths equal")
    assert found.kl is not None
    assert abs(found.kl) < 1e-9


def test_rounding_to_16_bits_is_right_at_16_bits_and_wrong_at_32(tmp_path: Path, scores: "np.ndarray") -> None:
    rounded = scores + np.random.default_rng(4).normal(0, 0.06, scores.shape)
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    other = answers(tmp_path, rounded, rounded.argmax(-1), "b")
    assert compare(one, other, "16-bit").verdict is OutputVerdict.RIGHT
    assert compare(one, other, "fp32").verdict is OutputVerdict.WRONG


def test_a_lossy_engine_is_lossy_and_an_unrelated_one_wrong(tmp_path: Path, scores: "np.ndarray") -> None:
    lossy = scores + np.random.default_rng(5).normal(0, 0.6, scores.shape)
    unrelated = np.random.default_rng(6).normal(0, 2, scores.shape)
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    assert compare(one, answers(tmp_path, lossy, lossy.argmax(-1), "b"), "lossy").verdict is OutputVerdict.LOSSY
    found = compare(one, answers(tmp_path, unrelated, unrelated.argmax(-1), "c"), "lossy")
    assert found.verdict is OutputVerdict.WRONG
    assert found.detail.startswith("diverges from the reference by")


def test_without_scores_the_first_departure_is_judged_by_the_reference(tmp_path: Path, scores: "np.ndarray") -> None:
    scores[0, 2, 7], scores[0, 2, 9] = 9.0, 8.99
    best = scores.argmax(-1)
    near, far = best.copy(), best.copy()
    near[0, 2:] = 9  # nearly as good: two right engines may part here
    far[0, 2:] = int(scores[0, 2].argmin())
    one = answers(tmp_path, scores, best, "a")
    mute = {"rows_file": None, "row_shape": None}
    near_answers = Answers(tokens=answers(tmp_path, scores, near, "b").tokens, **mute)  # type: ignore[arg-type]
    far_answers = Answers(tokens=answers(tmp_path, scores, far, "c").tokens, **mute)  # type: ignore[arg-type]
    assert compare(one, near_answers, "fp32").verdict is OutputVerdict.RIGHT
    found = compare(one, far_answers, "16-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert found.detail.startswith(f"token 3 after prompt 1 alone is {far[0, 2]}, which the reference scores")


def test_swapped_batch_rows_are_wrong(tmp_path: Path, scores: "np.ndarray") -> None:
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    swapped = (one.tokens[0], (one.tokens[1][1], one.tokens[1][0]), one.tokens[2])
    found = compare(one, Answers(tokens=swapped, rows_file=one.rows_file, row_shape=one.row_shape), "16-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert "in a batch of 2" in found.detail


def test_an_engine_that_scores_only_its_best_tokens_is_compared_on_those(tmp_path: Path, scores: "np.ndarray") -> None:
    few = np.where(scores >= np.sort(scores, axis=-1)[..., -5:-4], scores, FLOOR)
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    found = compare(one, answers(tmp_path, few, scores.argmax(-1), "b"), "fp32")
    assert found.verdict is OutputVerdict.RIGHT


def test_scores_that_are_no_numbers_are_wrong(tmp_path: Path, scores: "np.ndarray") -> None:
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    nothing = answers(tmp_path, np.full(scores.shape, np.nan), scores.argmax(-1), "b")
    assert compare(one, nothing, "16-bit").verdict is OutputVerdict.WRONG


def test_a_reference_without_scores_leaves_the_output_unchecked(tmp_path: Path, scores: "np.ndarray") -> None:
    one = Answers(tokens=answers(tmp_path, scores, scores.argmax(-1)).tokens, rows_file=None, row_shape=None)
    assert compare(one, one, "fp32") == Agreement(
        verdict=OutputVerdict.UNCHECKED, detail="the reference gave no scores"
    )


def test_the_fixed_prompts_are_fixed_and_fit_a_short_context() -> None:
    assert fixed_prompts(1000, 4096) == fixed_prompts(1000, 4096)
    assert [len(p) for p in fixed_prompts(1000, 4096)] == [24, 24, 96]
    assert [len(p) for p in fixed_prompts(1000, 32)] == [24, 24, 24]
    assert all(3 <= t < 10 for p in fixed_prompts(10, 64) for t in p)


@pytest.mark.parametrize(
    ("precision", "dtype", "lossy", "expected"),
    [
        ("model", "float32", False, "fp32"),
        ("fp32", "bfloat16", False, "fp32"),
        ("model", "bfloat16", False, "16-bit"),
        ("int8", "float32", True, "lossy"),
    ],
)
def test_the_class_of_a_precision(precision: str, dtype: str, lossy: bool, expected: str) -> None:
    assert precision_class(precision, dtype, lossy=lossy) == expected


def test_prompts_differ_by_seed_and_not_by_call() -> None:
    from calibration.worker import prompts

    state = random.getstate()
    assert prompts("a", 100, 5, 2) == prompts("a", 100, 5, 2) != prompts("b", 100, 5, 2)
    assert random.getstate() == state
