"""The verdict on an output: right within rounding, lossy where allowed, wrong where something else was computed."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.check.agreement import (
    GROUPS,
    NEW_TOKENS,
    PROMPT_TOKENS,
    Answers,
    compare,
    fixed_prompts,
    long_prompt,
    rounding_of,
)
from calibration.check.divergence import FLOOR, below
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
    assert (found.verdict, found.top1, found.detail) == (OutputVerdict.RIGHT, 1.0, "5 of 5 greedy paths equal")
    assert found.kl is not None
    assert abs(found.kl) < 1e-9
    assert found.max_diff is not None
    assert found.max_diff < 1e-5


def noisy(scores: "np.ndarray", deviation: float, seed: int = 4) -> "np.ndarray":
    return scores + np.random.default_rng(seed).normal(0, deviation, scores.shape)


def test_rounding_to_16_bits_is_right_at_16_bits_and_wrong_at_32(tmp_path: Path, scores: "np.ndarray") -> None:
    rounded = noisy(scores, 0.03)
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    other = answers(tmp_path, rounded, rounded.argmax(-1), "b")
    assert compare(one, other, "16-bit").verdict is OutputVerdict.RIGHT
    assert compare(one, other, "fp32").verdict is OutputVerdict.WRONG


def test_16_bits_are_measured_by_the_references_own_rounding(tmp_path: Path, scores: "np.ndarray") -> None:
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    rounded, engine = noisy(scores, 0.1, 5), noisy(scores, 0.12, 6)
    found = answers(tmp_path, engine, engine.argmax(-1), "b")
    assert compare(one, found, "16-bit").verdict is OutputVerdict.WRONG
    rounding = rounding_of(one, answers(tmp_path, rounded, rounded.argmax(-1), "c").rows_file, (NEW_TOKENS, VOCAB))  # type: ignore[arg-type]
    assert rounding is not None
    assert 0.002 < rounding.median_kl < 0.01
    assert compare(replace(one, rounding=rounding), found, "16-bit").verdict is OutputVerdict.RIGHT
    assert compare(replace(one, rounding=rounding), found, "fp32").verdict is OutputVerdict.WRONG


def test_a_reference_that_16_bits_do_not_hold_has_no_rounding(tmp_path: Path, scores: "np.ndarray") -> None:
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    nothing = answers(tmp_path, np.full(scores.shape, np.nan), scores.argmax(-1), "b")
    assert rounding_of(one, nothing.rows_file, (NEW_TOKENS, VOCAB)) is None  # type: ignore[arg-type]


def test_a_fault_after_one_prompt_does_not_drown(tmp_path: Path, scores: "np.ndarray") -> None:
    faulty = scores.copy()
    faulty[2] = noisy(scores, 0.15)[2]
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    found = compare(one, answers(tmp_path, faulty, scores.argmax(-1), "b"), "16-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert found.kl is not None
    assert found.kl < 0.01
    assert found.detail.startswith("diverges from the reference by 0.0")
    assert "after prompt 3 of 3 (0.001 allowed)" in found.detail


def test_a_token_sent_to_another_expert_at_one_position_is_no_fault(tmp_path: Path, scores: "np.ndarray") -> None:
    sent = noisy(scores, 0.02)
    sent[1, 3] = noisy(scores, 0.3)[1, 3]
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    assert compare(one, answers(tmp_path, sent, scores.argmax(-1), "b"), "16-bit").verdict is OutputVerdict.RIGHT


def test_a_mixture_may_be_far_off_where_a_token_is_sent_to_another_expert(tmp_path: Path, scores: "np.ndarray") -> None:
    one, far = answers(tmp_path, scores, scores.argmax(-1), "a"), 1.6 * scores
    sent = scores.copy()
    sent[2, :2] = far[2, :2]
    found = answers(tmp_path, sent, scores.argmax(-1), "b")
    assert compare(one, found, "16-bit", mixture=True).verdict is OutputVerdict.RIGHT
    assert compare(one, found, "16-bit").detail.startswith("diverges from the reference by 0.044 nats on average")
    sent[2, 2] = far[2, 2]
    again = answers(tmp_path, sent, scores.argmax(-1), "c")
    assert compare(one, again, "16-bit", mixture=True).verdict is OutputVerdict.WRONG


@pytest.mark.parametrize(("precision", "deviation"), [("8-bit", 0.15), ("4-bit", 0.9)])
def test_a_lossy_engine_is_lossy_and_an_unrelated_one_wrong(
    precision: str, deviation: float, tmp_path: Path, scores: "np.ndarray"
) -> None:
    lossy = noisy(scores, deviation)
    unrelated = np.random.default_rng(6).normal(0, 2, scores.shape)
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    found = compare(one, answers(tmp_path, lossy, lossy.argmax(-1), "b"), precision)
    assert found.verdict is OutputVerdict.LOSSY
    assert found.kl is not None
    assert found.kl > 0.005
    found = compare(one, answers(tmp_path, unrelated, unrelated.argmax(-1), "c"), precision)
    assert found.verdict is OutputVerdict.WRONG
    assert "of what scores of other positions do" in found.detail


@pytest.mark.parametrize(("precision", "deviation"), [("8-bit", 0.15), ("4-bit", 0.9)])
def test_a_lossy_engine_without_scores_is_judged_by_its_choices(
    precision: str, deviation: float, tmp_path: Path, scores: "np.ndarray"
) -> None:
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    lossy, unrelated = (
        noisy(scores, deviation).argmax(-1),
        np.random.default_rng(6).normal(0, 2, scores.shape).argmax(-1),
    )
    mute = {"rows_file": None, "row_shape": None}
    found = [compare(one, replace(answers(tmp_path, scores, t, "b"), **mute), precision) for t in (lossy, unrelated)]  # type: ignore[arg-type]
    assert [f.verdict for f in found] == [OutputVerdict.LOSSY, OutputVerdict.WRONG]


def test_a_lossy_engine_must_choose_by_its_own_scores(tmp_path: Path, scores: "np.ndarray") -> None:
    lossy = noisy(scores, 0.9)
    one, other = answers(tmp_path, scores, scores.argmax(-1), "a"), answers(tmp_path, lossy, lossy.argmax(-1), "b")
    swapped = (*other.tokens[:2], other.tokens[2][::-1], *other.tokens[3:])
    found = compare(one, replace(other, tokens=swapped), "4-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert "in a batch of 2" in found.detail


@pytest.mark.parametrize("precision", ["fp32", "16-bit", "8-bit", "4-bit"])
def test_a_prompt_that_is_not_scored_is_judged_by_its_choices(
    precision: str, tmp_path: Path, scores: "np.ndarray"
) -> None:
    one, scored = answers(tmp_path, scores, scores.argmax(-1), "a"), scores[:2]
    mute = answers(tmp_path, scored, scores.argmax(-1), "b")
    assert compare(one, mute, precision).verdict is not OutputVerdict.WRONG
    unrelated = scores.argmax(-1)
    unrelated[2] = scores[2].argmin(-1)
    found = compare(one, answers(tmp_path, scored, unrelated, "c"), precision)
    assert found.verdict is OutputVerdict.WRONG
    assert "after prompt 3 alone" in found.detail


def test_four_bits_with_scores_are_judged_by_them_and_without_by_their_choices(
    tmp_path: Path, scores: "np.ndarray"
) -> None:
    # Flat scores, of which each row's best and median change places: near as scores, as far off as any as choices.
    flat = scores / 4
    changed = flat.copy()
    best, median = np.argsort(flat, axis=-1)[..., [-1, VOCAB // 2]].transpose(2, 0, 1)[..., None]
    np.put_along_axis(changed, best, np.take_along_axis(flat, median, -1), -1)
    np.put_along_axis(changed, median, np.take_along_axis(flat, best, -1), -1)
    one = answers(tmp_path, flat, flat.argmax(-1), "a")
    other = answers(tmp_path, changed, changed.argmax(-1), "b")
    assert compare(one, other, "4-bit").verdict is OutputVerdict.LOSSY
    found = compare(one, replace(other, rows_file=None, row_shape=None), "4-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert "deviations below the reference's own choices on average (2 allowed)" in found.detail


def test_without_scores_the_first_departure_is_judged_by_the_reference(tmp_path: Path, scores: "np.ndarray") -> None:
    scores[0, 2, 7], scores[0, 2, 9] = 9.0, 8.99
    best = scores.argmax(-1)
    near, far = best.copy(), best.copy()
    near[0, 2] = 9  # nearly as good: two right engines may part here
    far[0, 2] = int(scores[0, 2].argmin())
    one = answers(tmp_path, scores, best, "a")
    mute: dict[str, Any] = {"rows_file": None, "row_shape": None}
    near_answers = Answers(tokens=answers(tmp_path, scores, near, "b").tokens, **mute)
    far_answers = Answers(tokens=answers(tmp_path, scores, far, "c").tokens, **mute)
    assert compare(one, near_answers, "fp32").verdict is OutputVerdict.RIGHT
    found = compare(one, far_answers, "16-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert found.detail.startswith(f"token 3 after prompt 1 alone is {far[0, 2]}, which the reference scores")


def test_swapped_batch_rows_are_wrong(tmp_path: Path, scores: "np.ndarray") -> None:
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    swapped = (*one.tokens[:2], one.tokens[2][::-1], *one.tokens[3:])
    found = compare(one, replace(one, tokens=swapped), "16-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert "in a batch of 2" in found.detail


def test_an_engine_that_scores_only_its_best_tokens_is_compared_on_those(tmp_path: Path, scores: "np.ndarray") -> None:
    few = np.where(scores >= np.sort(scores, axis=-1)[..., -5:-4], scores, FLOOR)
    one = answers(tmp_path, scores, scores.argmax(-1), "a")
    found = compare(one, answers(tmp_path, few, scores.argmax(-1), "b"), "fp32")
    assert found.verdict is OutputVerdict.RIGHT


@pytest.mark.parametrize("rest", [-np.inf, 2 * FLOOR])
def test_how_far_below_counts_what_is_scored(rest: float) -> None:
    row = np.array([1.0, rest, 3.0, rest, 5.0], dtype=np.float32)
    assert below(row, 4) == 0.0
    assert below(row, 2) == pytest.approx(2 / np.std([1.0, 3.0, 5.0]))
    assert below(row, 1) == below(row, 5) == np.inf


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
    assert [len(p) for p in fixed_prompts(1000, 4096, 1040)] == [24, 24, 96, 1040]
    assert all(3 <= t < 10 for p in fixed_prompts(10, 64) for t in p)


@pytest.mark.parametrize(
    ("affordable", "longest", "max_position", "window", "length"),
    [
        (1440, 544, 8192, None, 1040),  # the default cells afford it
        (368, 640, 8192, None, 368),
        (96, 128, 8192, None, 0),  # no longer than the others
        (1440, 544, 512, None, 504),
        (1440, 2048, 0, None, 1040),  # a model that names no longest context
        (5000, 5000, 32768, 4096, 4112),  # 16 beyond the window, where one key less weighs most
        (1440, 5000, 32768, 4096, 1040),
        (1440, 544, 32768, 512, 528),
        (1440, 512, 32768, 512, 504),  # who ignores the window is legal up to it
        (1440, 544, 32768, 4096, 1040),
        (1440, 544, 32768, 16, 1040),  # shown by the others
        (1440, 544, 32768, 80, 1040),
        (1440, 544, 32768, 81, 97),
        (4112, 5000, 32768, 4096, 4112),  # no longer than it may be
        (4111, 5000, 32768, 4096, 1040),
        # Prompt and new tokens stay inside the window, also where the prompt alone would.
        (512, 512, 32768, 512, 504),
        (505, 512, 32768, 512, 504),
        (504, 512, 32768, 512, 504),
        (500, 512, 32768, 512, 500),
        (97, 97, 8192, None, 97),
    ],
)
def test_the_length_of_the_long_prompt(
    affordable: int, longest: int, max_position: int, window: int | None, length: int
) -> None:
    assert long_prompt(affordable, longest, max_position, window) == length


def test_the_long_prompt_is_judged_up_to_where_it_leaves(tmp_path: Path, scores: "np.ndarray") -> None:
    four = np.concatenate([scores, noisy(scores[:1], 2)])
    one = answers(tmp_path, four, four.argmax(-1), "a")
    path = tuple(int(t) for t in four[3].argmax(-1))
    one = replace(one, tokens=(*one.tokens, (path,)))
    assert compare(one, replace(one, tokens=(*one.tokens[:-1], (path[:3],))), "fp32").verdict is OutputVerdict.RIGHT
    left = (*path[:2], int(four[3, 2].argmin()))
    found = compare(one, replace(one, tokens=(*one.tokens[:-1], (left,))), "fp32")
    assert found.detail.startswith(f"token 3 after prompt 4 alone is {left[2]}, which the reference scores")


def test_prompts_differ_by_seed_and_not_by_call() -> None:
    from calibration.worker.prompts import prompts

    state = random.getstate()
    assert prompts("a", 100, 5, 2) == prompts("a", 100, 5, 2) != prompts("b", 100, 5, 2)
    assert random.getstate() == state


@pytest.mark.parametrize("error", [0.003, 0.03, 0.3])
@pytest.mark.parametrize(("share", "precision"), [(0, "fp32"), (0.125, "16-bit"), (1, "16-bit")])
def test_no_candidate_is_refused_for_being_as_exact_as_a_reference_in_16_bits(
    error: float, share: float, precision: str, tmp_path: Path, scores: "np.ndarray"
) -> None:
    """The reference's scores are off by `error`, the other 16-bit dtype's by an eighth, the candidate's by a share."""
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, error, (3, *scores.shape))
        inexact, other, candidate = scores + noise[0], scores + noise[1] / 8, scores + share * noise[2]
        one = replace(answers(tmp_path, inexact, inexact.argmax(-1), "a"), precision="16-bit")
        other.astype(np.float32).tofile(tmp_path / "other.f32")
        rounding = rounding_of(one, tmp_path / "other.f32", (NEW_TOKENS, VOCAB))
        found = compare(
            replace(one, rounding=rounding), answers(tmp_path, candidate, candidate.argmax(-1), "b"), precision
        )
        assert found.verdict is OutputVerdict.RIGHT, found
        assert found.detail.endswith("; the reference has 16 bits, and more is allowed for it")


def test_beside_a_reference_in_16_bits_of_unknown_rounding_more_is_allowed_and_something_else_is_wrong(
    tmp_path: Path, scores: "np.ndarray"
) -> None:
    one = replace(answers(tmp_path, scores, scores.argmax(-1), "a"), precision="16-bit")
    near = scores + np.random.default_rng(1).normal(0, 0.1, scores.shape)
    found = compare(one, answers(tmp_path, near, scores.argmax(-1), "b"), "fp32")
    assert found.verdict is OutputVerdict.RIGHT
    assert found.kl is not None
    assert 1e-3 < found.kl < 0.05
    other = scores[:, ::-1]
    assert compare(one, answers(tmp_path, other, other.argmax(-1), "c"), "fp32").verdict is OutputVerdict.WRONG
