"""Where the decisions of a race turn: one step on either side of a bound, one launch more or less."""

import pytest

from calibration.race.rounds.decisions import History, Times, eliminate, finished, leader, order, rematch
from calibration.workload import Workload, grid

PP64, PP512, *_ = grid()


def even(times: float) -> dict[Workload, Times]:
    """A launch so many times slower than one that prefills 64 tokens in 0.1 s and steps in 0.02 s."""
    return {PP64: (0.1 * times, 0.02 * times), PP512: (0.8 * times, 0.02 * times)}


def alike(ttft_s: float, tpot_s: float | None) -> dict[Workload, Times]:
    """A launch with the same times in both cells."""
    return {PP64: (ttft_s, tpot_s), PP512: (ttft_s, tpot_s)}


@pytest.mark.parametrize(
    ("ttft_s", "out"),
    [
        (0.96, set()),
        (0.969, set()),
        (0.97, {"b"}),  # ahead by the band and no more
        (0.98, {"b"}),
    ],
)
def test_prefill_that_is_ahead_by_more_than_3_percent_keeps_a_candidate_in(ttft_s: float, out: set[str]) -> None:
    assert eliminate({"a": [alike(1.0, 0.1)], "b": [alike(ttft_s, 0.9)]}) == out


def test_what_is_ahead_in_most_rounds_is_ahead() -> None:
    leader, ahead, behind = [alike(1.0, 0.1)] * 3, alike(0.5, 0.9), alike(1.2, 0.9)
    assert eliminate({"a": leader, "b": [ahead, ahead, behind]}) == set()
    assert eliminate({"a": leader, "b": [behind, ahead, behind]}) == {"b"}


def test_a_rival_that_was_launched_less_often_is_compared_where_both_were() -> None:
    assert eliminate({"a": [even(1)] * 2, "b": [even(3)]}) == {"b"}
    assert eliminate({"a": [even(1), {PP64: even(1)[PP64]}], "b": [even(3)] * 2}) == {"b"}


def test_a_rival_that_does_not_decode_is_compared_without() -> None:
    assert eliminate({"a": [alike(0.1, None)], "b": [alike(9.0, 0.02)]}) == {"b"}


@pytest.mark.parametrize(
    ("history", "first"),
    [
        # 31 steps of 32 tokens: 4.1 s against 4.0996 and 4.1008.
        ({"a": [alike(1.0, 0.1)], "b": [alike(0.95, 0.1016)]}, "b"),
        ({"a": [alike(1.0, 0.1)], "b": [alike(0.95, 0.10164)]}, "a"),
        ({"a": [alike(5.0, None)], "b": [alike(1.0, 0.5)]}, "a"),
        # The median of the launches, not the worst.
        ({"a": [even(1), even(9), even(1)], "b": [even(2)] * 3}, "a"),
        # The geometric mean of the cells, however many there are.
        ({"a": [even(9)], "b": [{PP64: even(14)[PP64]}]}, "a"),
        ({"a": [even(9)], "b": [{PP64: even(11)[PP64]}]}, "b"),
    ],
)
def test_the_leader_has_the_least_end_to_end_time(history: History, first: str) -> None:
    assert leader(history) == first


def test_a_later_round_begins_with_those_that_came_furthest() -> None:
    cut_short = {PP64: even(1)[PP64]}
    assert order("ba", {"a": [even(1), cut_short], "b": [even(3), even(3)]}) == ["a", "b"]
    assert order("abn", {"a": [cut_short], "b": [even(3)]}) == ["b", "a", "n"]


EIGHT = 8
"""So many launches that agree tell two candidates within 3 % apart from others: their interval ends 2.2 % away."""


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (even(1), even(1), "tied"),
        (even(1), even(1.005), "tied"),
        (even(1), even(1.02), None),  # the interval reaches beyond the band, above
        (even(1.02), even(1), None),  # and below
        (even(1), even(1.1), None),
        (even(1.1), even(1), None),
        # On every cell.
        ({PP64: even(1)[PP64], PP512: even(1.1)[PP512]}, even(1), None),
    ],
)
def test_a_tie_is_inside_the_band_with_its_whole_interval_on_every_cell(
    one: dict[Workload, Times], other: dict[Workload, Times], why: str | None
) -> None:
    assert finished({"a": [one] * EIGHT, "b": [other] * EIGHT}, EIGHT + 1) == why


def test_a_race_ends_with_the_round_of_whoever_is_in_it_longest() -> None:
    assert finished({"a": [even(1)] * 3, "b": [even(1.1)] * 2}, 3) == "rounds"
    assert finished({"a": [even(1)] * 2, "b": [even(1.1)] * 2}, 3) is None


def test_two_leaders_meet_again_also_where_they_began_late() -> None:
    assert rematch({"a": [None, even(1)], "b": [None, even(1.1)]}, long_load=True) == ["a", "b", "b", "a"]
    assert rematch({"a": [even(1)], "b": [None]}, long_load=True) == []
