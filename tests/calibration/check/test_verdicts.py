"""A verdict to the number: which divergence, which choice turns it, and the sentence that says so."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.check.agreement import (
    GROUPS,
    LONG_GROUP,
    NEW_TOKENS,
    TOLD_BY_SCORES,
    Answers,
    compare,
    fixed_prompts,
    groups,
    rounding_of,
)
from calibration.check.divergence import below, distances, divergence, strangers
from calibration.check.tolerance import Rounding
from calibration.measurement import Agreement, OutputVerdict
from calibration.worker.prompts import prompts

ROW = np.array([0.0, 1.0, 2.0, 4.0])
"""Scores of four tokens; the last one is the best."""
REFERENCE = np.tile(ROW, (3, NEW_TOKENS, 1))
BEST = [[3] * NEW_TOKENS] * 3
EQUAL = "5 of 5 greedy paths equal"


def answers(folder: Path, name: str, scores: "np.ndarray | None", paths: Sequence[Sequence[int]] = BEST) -> Answers:
    """Of an engine with these scores [prompt, step, token] and this path after each prompt, the same in every group."""
    file = folder / name
    if scores is not None:
        scores.astype(np.float32).tofile(file)
    tokens = [[paths[prompt] for prompt in group] for group in GROUPS]
    return Answers.of(tokens, file, None if scores is None else scores.shape[1:])


def verdict(
    folder: Path,
    scores: "np.ndarray | None",
    precision: str,
    paths: Sequence[Sequence[int]] = BEST,
    reference: "np.ndarray" = REFERENCE,
    rounding: Rounding | None = None,
) -> Agreement:
    one = replace(answers(folder, "reference", reference, reference.argmax(-1).tolist()), rounding=rounding)
    return compare(one, answers(folder, "candidate", scores, paths), precision)


def row_at(nats: float) -> "np.ndarray":
    """ROW with its worst token raised until it diverges by so much; the best token stays the best."""
    low, high = 0.0, 3.9
    for _ in range(60):
        middle = (low + high) / 2
        raised = np.array([middle, *ROW[1:]])
        low, high = (low, middle) if divergence(ROW, raised) > nats else (middle, high)
    return np.array([low, *ROW[1:]])


def with_rows(prompt: int, steps: int, nats: float) -> "np.ndarray":
    """REFERENCE with so many rows after one prompt that far off."""
    scores = REFERENCE.copy()
    scores[prompt, :steps] = row_at(nats)
    return scores


@pytest.mark.parametrize(("steps", "wrong"), [(3, False), (4, True), (8, True)])
def test_half_of_the_positions_after_each_prompt_must_be_near(steps: int, wrong: bool, tmp_path: Path) -> None:
    found = verdict(tmp_path, with_rows(1, steps, 0.002), "16-bit")
    assert found.verdict is (OutputVerdict.WRONG if wrong else OutputVerdict.RIGHT)
    said = f"diverges from the reference by 0.002 nats after prompt 2 of 3 (0.001 allowed); {EQUAL}"
    assert found.detail == (said if wrong else EQUAL)


@pytest.mark.parametrize(("nats", "wrong"), [(0.0009, False), (0.0011, True)])
def test_the_median_divergence_has_a_bound(nats: float, wrong: bool, tmp_path: Path) -> None:
    found = verdict(tmp_path, with_rows(0, 8, nats), "16-bit")
    assert found.verdict is (OutputVerdict.WRONG if wrong else OutputVerdict.RIGHT)


@pytest.mark.parametrize(("nats", "wrong"), [(0.152, False), (0.2, True)])
def test_the_mean_divergence_has_a_bound_that_one_position_can_break(nats: float, wrong: bool, tmp_path: Path) -> None:
    found = verdict(tmp_path, with_rows(2, 1, nats), "16-bit")
    assert found.verdict is (OutputVerdict.WRONG if wrong else OutputVerdict.RIGHT)
    said = f"diverges from the reference by 0.025 nats on average after prompt 3 of 3 (0.02 allowed); {EQUAL}"
    assert found.detail == (said if wrong else EQUAL)


def test_the_worst_prompt_is_named(tmp_path: Path) -> None:
    scores = with_rows(0, 8, 0.002)
    scores[2] = row_at(0.004)
    assert verdict(tmp_path, scores, "16-bit").detail.startswith(
        "diverges from the reference by 0.004 nats after prompt 3 of 3 (0.001 allowed); "
    )
    scores = with_rows(1, 1, 0.2)
    scores[0, 0] = row_at(0.32)
    assert verdict(tmp_path, scores, "16-bit").detail.startswith(
        "diverges from the reference by 0.04 nats on average after prompt 1 of 3 (0.02 allowed); "
    )


def test_an_agreement_tells_the_mean_divergence_the_share_of_equal_tokens_and_the_largest_difference(
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(1)
    scores = (REFERENCE + draw.normal(0, 0.8, REFERENCE.shape)).astype(np.float32)
    apart = distances(REFERENCE.astype(np.float32), scores)
    found = verdict(tmp_path, scores, "4-bit", scores.argmax(-1).tolist())
    assert (found.kl, found.top1, found.max_diff) == (apart.kl.mean(), apart.same.mean(), apart.diff.max())
    assert 0.0 < apart.same.mean() < 1.0
    assert apart.diff.max() > 1.5 * apart.diff.mean()


def varied(spread: float) -> "np.ndarray":
    """Rows that differ from position to position."""
    return np.asarray(np.random.default_rng(2).normal(0, spread, (3, NEW_TOKENS, 12)), dtype=np.float32)


@pytest.mark.parametrize(("noise", "wrong"), [(1.1, False), (1.5, True)])
def test_a_lossy_engine_is_nearer_to_its_own_position_than_to_others(noise: float, wrong: bool, tmp_path: Path) -> None:
    reference = varied(2.0)
    scores = reference.copy()
    scores[1] += np.random.default_rng(3).normal(0, noise, scores[1].shape).astype(np.float32)
    shares = distances(reference, scores).kl.mean(axis=1) / strangers(reference, scores).mean(axis=1)
    assert bool(shares[1] > 0.15) is wrong
    found = verdict(tmp_path, scores, "8-bit", scores.argmax(-1).tolist(), reference)
    assert found.verdict is (OutputVerdict.WRONG if wrong else OutputVerdict.LOSSY)
    if wrong:
        mean = distances(reference, scores).kl.mean(axis=1)[1]
        assert found.detail.startswith(
            f"diverges from the reference by {mean:.2g} nats after prompt 2 of 3,"
            f" {shares[1]:.2g} of what scores of other positions do (0.15 allowed); "
        )


def test_who_diverges_as_little_as_16_bits_do_is_not_measured_by_other_positions(tmp_path: Path) -> None:
    """Where all positions are nearly alike, other positions are no measure."""
    reference = varied(0.05)
    scores = reference + np.random.default_rng(3).normal(0, 0.15, reference.shape).astype(np.float32)
    means = distances(reference, scores).kl.mean(axis=1)
    assert (means / strangers(reference, scores).mean(axis=1)).max() > 0.7
    assert means.max() < 0.02
    assert verdict(tmp_path, scores, "4-bit", scores.argmax(-1).tolist(), reference).verdict is OutputVerdict.LOSSY


def test_scores_of_less_than_the_vocabulary_are_wrong_and_their_choices_are_judged_without(tmp_path: Path) -> None:
    found = verdict(tmp_path, REFERENCE[..., :3], "fp32")
    assert found == Agreement(verdict=OutputVerdict.WRONG, detail=f"scores 3 tokens; the vocabulary has 4; {EQUAL}")
    padded = np.concatenate([REFERENCE, np.full((3, NEW_TOKENS, 2), 3.0)], axis=-1)
    assert verdict(tmp_path, padded, "fp32").verdict is OutputVerdict.RIGHT


def near(margin: float) -> "np.ndarray":
    """REFERENCE whose second best token is so many deviations below the best."""
    row = ROW.copy()
    low, high = 0.0, 4.0
    for _ in range(60):
        row[2] = (low + high) / 2
        low, high = (row[2], high) if below(row, 2) > margin else (low, row[2])
    rows = np.tile(row, (3, NEW_TOKENS, 1))
    rows[1, :, :2] = row[1], row[0]  # one prompt's rows differ from the others'
    return rows


def path_with(prompt: int, steps: int) -> list[list[int]]:
    """The best tokens, but for the last so many after one prompt: there the second best."""
    return [[3] * (NEW_TOKENS - steps) + [2] * steps if number == prompt else [3] * NEW_TOKENS for number in range(3)]


WORSE = "token 8 after prompt 3 alone is 2, which the reference scores {} deviations below its own choice, 3"
ON_AVERAGE = (
    "the tokens after prompt 3 alone are {} deviations below the reference's own choices on average ({} allowed)"
)


@pytest.mark.parametrize(
    ("precision", "margin", "steps", "wrong"),
    [
        ("16-bit", 0.29, 1, None),
        ("16-bit", 0.31, 1, WORSE.format(0.31)),
        ("fp32", 0.0199, 1, None),
        ("fp32", 0.051, 1, WORSE.format(0.05)),
        # The mean after one prompt, each choice below its bound.
        ("16-bit", 0.2, 1, None),
        ("16-bit", 0.2, 2, ON_AVERAGE.format(0.05, 0.04)),
        ("quantised", 0.2, 3, None),
        ("quantised", 0.2, 5, ON_AVERAGE.format(0.12, 0.1)),
    ],
)
def test_a_choice_may_be_little_worse_than_the_references(
    precision: str, margin: float, steps: int, wrong: str | None, tmp_path: Path
) -> None:
    found = verdict(tmp_path, None, precision, path_with(2, steps), near(margin))
    summary = "4 of 5 greedy paths equal"
    assert found.detail == (f"{wrong}; {summary}" if wrong else summary)
    assert found.verdict is (OutputVerdict.WRONG if wrong else OutputVerdict.RIGHT)
    assert (found.kl, found.top1, found.max_diff) == (None, None, None)


def test_the_prompts_of_a_batch_are_named(tmp_path: Path) -> None:
    tokens = [[BEST[prompt] for prompt in group] for group in GROUPS]
    tokens[2][1] = [3, 3, 0] + [3] * 5
    one = answers(tmp_path, "reference", REFERENCE)
    found = compare(one, Answers.of(tokens, tmp_path / "none", None), "16-bit")
    assert found.detail == (
        "token 3 after prompt 1 in a batch of 2 is 0, which the reference scores 2.70 deviations below its own choice,"
        " 3; 4 of 5 greedy paths equal"
    )


@pytest.mark.parametrize(("margin", "wrong"), [(0.09, None), (0.11, 0.011)])
def test_all_choices_together_have_a_bound_of_their_own(margin: float, wrong: float | None, tmp_path: Path) -> None:
    """In two of five paths two of eight choices each: a tenth of them all."""
    paths = [path_with(0, 2)[0], path_with(1, 0)[1], path_with(2, 0)[2]]
    found = verdict(tmp_path, None, "16-bit", paths, near(margin))
    said = (
        f"the tokens chosen are {wrong} deviations below the reference's own choices on average (0.01 allowed);"
        " 3 of 5 greedy paths equal"
    )
    assert found.detail == (said if wrong else "3 of 5 greedy paths equal")


@pytest.mark.parametrize(("margin", "wrong"), [(0.59, False), (0.61, True)])
def test_what_is_chosen_is_the_best_of_its_own_scores(margin: float, wrong: bool, tmp_path: Path) -> None:
    scores = near(margin)
    found = verdict(tmp_path, scores, "4-bit", path_with(1, 2), scores)
    said = (
        f"token 7 after prompt 2 alone is 2, which its own scores have {margin:.2f} deviations below the best;"
        " 3 of 5 greedy paths equal"
    )
    assert found.detail == (said if wrong else "3 of 5 greedy paths equal")


def test_where_scores_are_given_4_bits_are_judged_by_them_alone_and_8_bits_by_their_choices_too(tmp_path: Path) -> None:
    reference = varied(2.0)
    scores, margins = reference.copy(), []
    for step in range(NEW_TOKENS):
        second, best = np.argsort(reference[2, step])[-2:]
        scores[2, step, second] = reference[2, step, best] + 0.1
        margins.append(below(reference[2, step], int(second)))
    paths = scores.argmax(-1).tolist()
    assert verdict(tmp_path, scores, "4-bit", paths, reference).verdict is OutputVerdict.LOSSY
    found = verdict(tmp_path, scores, "8-bit", paths, reference)
    assert found.detail == (
        f"the tokens after prompt 3 alone are {np.mean(margins):.2g} deviations below the reference's own choices on"
        " average (0.3 allowed); 4 of 5 greedy paths equal"
    )


def test_a_references_rounding_is_that_of_its_worst_prompt(tmp_path: Path) -> None:
    rounded = with_rows(1, 8, 0.01)
    rounded[2, :3] = row_at(0.4)
    rounded[0, 0] = [0.0, 1.0, 4.5, 4.0]  # another token is the best
    answers(tmp_path, "rounded", rounded)
    found = rounding_of(answers(tmp_path, "reference", REFERENCE), tmp_path / "rounded", (NEW_TOKENS, 4))
    apart = distances(REFERENCE.astype(np.float32), rounded.astype(np.float32))
    assert found is not None
    assert (found.median_kl, found.mean_kl) == pytest.approx((0.01, 3 * 0.4 / 8), rel=1e-4)
    assert (found.diff, found.mean_margin) == (apart.diff.max(), below(ROW.astype(np.float32), 2) / 8)


def test_rounding_is_taken_of_the_prompts_that_were_computed_twice(tmp_path: Path) -> None:
    answers(tmp_path, "rounded", with_rows(1, 8, 0.01)[:2])
    one = answers(tmp_path, "reference", REFERENCE)
    found = rounding_of(one, tmp_path / "rounded", (NEW_TOKENS, 4))
    assert found is not None
    assert found.mean_kl == pytest.approx(0.01, rel=1e-4)
    assert rounding_of(replace(one, rows_file=None), tmp_path / "rounded", (NEW_TOKENS, 4)) is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_score_that_is_no_number_is_no_rounding(place: int, tmp_path: Path) -> None:
    rounded = REFERENCE.copy()
    rounded[place, 3] = np.nan
    answers(tmp_path, "rounded", rounded)
    assert rounding_of(answers(tmp_path, "reference", REFERENCE), tmp_path / "rounded", (NEW_TOKENS, 4)) is None


def test_answers_are_those_of_the_groups_with_and_without_a_long_prompt(tmp_path: Path) -> None:
    assert groups(False) == ((0,), (1,), (1, 0), (2,))
    assert groups(True) == (*groups(False), LONG_GROUP) == ((0,), (1,), (1, 0), (2,), (3,))
    paths = [[number] * 2 for number in range(4)]
    short = Answers.of_reference(paths[:3], tmp_path / "rows", (2, 9))
    assert short == Answers(
        tokens=(((0, 0),), ((1, 1),), ((1, 1), (0, 0)), ((2, 2),)), rows_file=tmp_path / "rows", row_shape=(2, 9)
    )
    long = Answers.of_reference(paths, tmp_path / "rows", None)
    assert long == Answers(tokens=(*short.tokens, ((3, 3),)), rows_file=None, row_shape=None)
    assert [long.path(prompt) for prompt in range(4)] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert [short.path(prompt) for prompt in range(3)] == [(0, 0), (1, 1), (2, 2)]


def test_what_shows_in_a_batch_alone_shows_with_the_prompts_whose_scores_are_asked_beside_their_tokens() -> None:
    assert {prompt for group in GROUPS if len(group) > 1 for prompt in group} == set(range(TOLD_BY_SCORES))


@pytest.mark.parametrize(
    ("max_context", "lengths"),
    [(4096, [24, 24, 96]), (32, [24, 24, 24]), (10, [2, 2, 2]), (9, [1, 1, 1]), (3, [1, 1, 1])],
)
def test_the_fixed_prompts_leave_room_for_what_is_generated(max_context: int, lengths: list[int]) -> None:
    assert fixed_prompts(1000, max_context) == [
        prompts(f"check-{number}", 1000, length, 1)[0] for number, length in enumerate(lengths)
    ]
