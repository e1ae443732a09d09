"""What requests chose that ran at once: which are asked, what is judged, and which sentence says what is wrong."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.check.agreement import NEW_TOKENS, Answers
from calibration.check.at_once import Chosen, Prefix, beside_itself, course, judge, needs_itself, unknown
from calibration.check.divergence import below
from calibration.check.tolerance import Rounding
from calibration.measurement import Agreement, OutputVerdict

VOCAB = 40
DRAWN = np.random.default_rng(7).normal(size=(3, NEW_TOKENS, VOCAB)).astype(np.float32)
"""Scores of the reference: at each position another token is the best."""
PATHS = DRAWN.argmax(-1).tolist()
ALL = (0, 1, 2)


def reference(folder: Path, scores: "np.ndarray" = DRAWN, rounding: Rounding | None = None) -> Answers:
    file = folder / "reference.f32"
    scores.astype(np.float32).tofile(file)
    return replace(Answers.of_reference(scores.argmax(-1).tolist(), file, scores.shape[1:]), rounding=rounding)


def path(prompt: int, given: int = 0) -> Chosen:
    """What a right server chooses."""
    return Chosen(after=Prefix(prompt=prompt, given=given), tokens=tuple(PATHS[prompt][given:]))


def along(chosen: Chosen, step: int, token: int) -> Chosen:
    """The same with another token at a step of the path."""
    tokens = list(chosen.tokens)
    tokens[step - chosen.after.given] = token
    return replace(chosen, tokens=tuple(tokens))


def ranked(prompt: int, step: int, place: int) -> int:
    """The token at this place of a position's ranking; the best is at 0."""
    return int(np.argsort(-DRAWN[prompt, step])[place])


def verdict(folder: Path, chosen: Sequence[Chosen], precision: str = "16-bit") -> Agreement:
    return judge(reference(folder), chosen, ALL, precision)


def test_requests_have_many_lengths_and_are_more_than_the_server_holds() -> None:
    asked = course(ALL, 8)
    assert asked.running == Prefix(prompt=0)
    assert [(one.prompt, one.given) for one in asked.first] == [
        *((0, 0), (1, 0), (2, 0)),
        *((0, 5), (1, 5), (2, 5)),
        *((0, 2), (1, 2)),
    ]
    assert [(one.prompt, one.given) for one in asked.late] == [(2, 0), (0, 3), (1, 1)]
    assert {one.given + one.new_tokens for one in (*asked.first, *asked.late)} == {NEW_TOKENS}
    assert [len(course(ALL, slots).first) for slots in (1, 2, 5, 100)] == [2, 2, 5, 12]


def test_a_long_prompt_comes_once_and_late() -> None:
    asked = course((*ALL, 3), 16)
    assert [one for one in (asked.running, *asked.first, *asked.late) if one.prompt == 3] == [Prefix(prompt=3)]
    assert asked.late[0] == Prefix(prompt=3)


def test_where_the_server_has_room_for_one_prompt_alone_it_is_asked_for_all() -> None:
    asked = course((1,), 4)
    assert {one.prompt for one in (asked.running, *asked.first, *asked.late)} == {1}
    assert len(asked.first) == 4


def test_a_prefix_has_the_beginning_of_the_path(tmp_path: Path) -> None:
    prompts = [[5, 6], [7], [8, 9]]
    assert Prefix(prompt=1, given=3).tokens(prompts, reference(tmp_path)) == (7, *PATHS[1][:3])


def test_right_choices_are_right_and_counted(tmp_path: Path) -> None:
    chosen = [path(0), path(1), path(2, 5), path(2)]
    assert verdict(tmp_path, chosen) == Agreement(
        verdict=OutputVerdict.RIGHT,
        top1=1.0,
        detail="27 of 27 tokens of 4 requests at once are the reference's",
    )
    assert verdict(tmp_path, chosen, "8-bit").verdict is OutputVerdict.LOSSY


def test_a_running_answer_counts_as_far_as_the_reference_goes(tmp_path: Path) -> None:
    long = replace(path(0), tokens=(*path(0).tokens, 1, 2, 3))
    assert verdict(tmp_path, [long]).detail == "8 of 8 tokens of 1 request at once are the reference's"


@pytest.mark.parametrize("precision", ["fp32", "16-bit", "quantised", "8-bit"])
def test_one_wrong_token_of_one_request_of_many_is_found(tmp_path: Path, precision: str) -> None:
    token = ranked(1, 6, VOCAB - 1)
    chosen = [path(0), path(1), path(2), path(1, 2), along(path(1, 5), 6, token), path(0, 5)]
    found = verdict(tmp_path, chosen, precision)
    margin = below(DRAWN[1, 6], token)
    assert found.verdict is OutputVerdict.WRONG
    assert found.detail == (
        f"token 7 after prompt 2 is {token}, which the reference scores {margin:.2f} deviations below its own choice,"
        f" {PATHS[1][6]}; 34 of 35 tokens of 6 requests at once are the reference's"
    )


def test_after_a_token_of_its_own_nothing_is_judged(tmp_path: Path) -> None:
    """It continues another text, of which the reference has no scores."""
    scores = DRAWN.copy()
    scores[0, 2, ranked(0, 2, 1)] = scores[0, 2].max() - 1e-4
    near = along(path(0), 2, ranked(0, 2, 1))
    astray = replace(near, tokens=(*near.tokens[:3], *[ranked(0, step, VOCAB - 1) for step in range(3, NEW_TOKENS)]))
    found = judge(reference(tmp_path, scores), [astray, path(1), path(2)], ALL, "fp32")
    assert found.verdict is OutputVerdict.RIGHT, "two scores that nearly tie may change places"
    assert found.detail == "18 of 19 tokens of 3 requests at once are the reference's"


def test_what_no_request_has_told_is_asked_next(tmp_path: Path) -> None:
    made = reference(tmp_path)
    astray = along(path(1), 2, ranked(1, 2, 1))
    assert unknown(made, [path(0), astray, path(2)], ALL) == (Prefix(prompt=1, given=3),)
    assert unknown(made, [path(0), astray, path(1, 5), path(2)], ALL) == (Prefix(prompt=1, given=3),)
    assert unknown(made, [path(0), astray, path(1, 3), path(2)], ALL) == ()
    assert unknown(made, [path(0)], (0, 3)) == (), "a long prompt is asked once"


def test_near_ties_after_one_prompt_must_not_be_many(tmp_path: Path) -> None:
    """Each of them is within the margin, as of one token that was computed from a wrong neighbour."""
    scores = DRAWN.copy()
    second = [ranked(1, step, 1) for step in range(NEW_TOKENS)]
    for step, token in enumerate(second):
        scores[1, step, token] = scores[1, step].max() - 0.2 * scores[1, step].std()
    off = [Chosen(after=Prefix(prompt=1, given=step), tokens=(token,)) for step, token in enumerate(second)]
    found = judge(reference(tmp_path, scores), [path(0), path(2), *off], ALL, "16-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert found.detail.startswith("the tokens after prompt 2 are 0.2 deviations below the reference's own choices on")
    one = judge(reference(tmp_path, scores), [path(0), path(2), *off[:1], path(1, 1)], ALL, "16-bit")
    assert one.verdict is OutputVerdict.RIGHT


def test_the_worst_of_several_choices_at_a_position_counts(tmp_path: Path) -> None:
    """A wrong request does not drown among right ones."""
    scores = DRAWN.copy()
    second = [ranked(1, step, 1) for step in range(NEW_TOKENS)]
    for step, token in enumerate(second):
        scores[1, step, token] = scores[1, step].max() - 0.2 * scores[1, step].std()
    off = [Chosen(after=Prefix(prompt=1, given=step), tokens=(token,)) for step, token in enumerate(second)]
    found = judge(reference(tmp_path, scores), [path(0), path(2), *[path(1)] * 20, *off], ALL, "16-bit")
    assert found.verdict is OutputVerdict.WRONG


def test_in_4_bits_choices_may_be_far_but_not_as_far_as_strangers(tmp_path: Path) -> None:
    def all_at(place: int) -> list[Chosen]:
        steps = [(prompt, step) for prompt in ALL for step in range(NEW_TOKENS)]
        return [Chosen(after=Prefix(prompt=p, given=step), tokens=(ranked(p, step, place),)) for p, step in steps]

    assert verdict(tmp_path, all_at(6), "4-bit").verdict is OutputVerdict.LOSSY
    found = verdict(tmp_path, [path(1), path(2), *all_at(VOCAB - 2)[:NEW_TOKENS]], "4-bit")
    assert found.verdict is OutputVerdict.WRONG
    assert found.detail.startswith("the tokens after prompt 1 are ")


def test_in_4_bits_a_server_is_compared_with_itself() -> None:
    assert [needs_itself(precision) for precision in ("fp32", "16-bit", "quantised", "8-bit", "4-bit")] == [
        *(False, False, False, False, True)
    ]
    right = [path(0), path(1), path(2), *(path(prompt, given) for prompt in ALL for given in (2, 5))]
    assert beside_itself([*right, replace(path(0), tokens=(*path(0).tokens, 9, 9))], right) == ""
    one = [replace(path(0), tokens=(VOCAB - 1,)), *right[1:]]
    assert beside_itself(one, right) == "", "two tokens that nearly tie may change places"
    two = [replace(path(0), tokens=(VOCAB - 1,)), along(path(1), 7, VOCAB - 1), *right[2:]]
    assert beside_itself(two, right) == "2 of 9 requests are answered otherwise at once than alone"
    assert beside_itself(two, right[2:]) == "", "those that were asked at once alone are not compared"


def test_rounding_of_the_model_widens_the_margin(tmp_path: Path) -> None:
    token = ranked(0, 0, 5)
    margin = below(DRAWN[0, 0], token)
    wide = Rounding(median_kl=1e-4, mean_kl=1e-4, diff=8 * margin, mean_margin=0.0)
    chosen = [along(path(0), 0, token), path(0, 1), path(1), path(2)]
    assert verdict(tmp_path, chosen).verdict is OutputVerdict.WRONG
    assert judge(reference(tmp_path, rounding=wide), chosen, ALL, "16-bit").verdict is OutputVerdict.RIGHT


def test_a_reference_without_scores_and_a_server_without_tokens_judge_nothing(tmp_path: Path) -> None:
    silent = replace(reference(tmp_path), rows_file=None, row_shape=None)
    found = judge(silent, [path(0)], ALL, "fp32")
    assert (found.verdict, found.detail) == (OutputVerdict.UNCHECKED, "the reference gave no scores")
    nothing = verdict(tmp_path, [Chosen(after=Prefix(prompt=0), tokens=())])
    assert (nothing.verdict, nothing.detail) == (OutputVerdict.UNCHECKED, "the server told no token")


def test_a_token_beyond_the_vocabulary_is_wrong(tmp_path: Path) -> None:
    assert verdict(tmp_path, [along(path(0), 3, VOCAB + 7)], "fp32").verdict is OutputVerdict.WRONG
