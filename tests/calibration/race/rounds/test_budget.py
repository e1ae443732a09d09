"""What is left of the time, and which launches it still holds, by a clock that the test turns."""

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from calibration.race.bounds import Bounds
from calibration.race.known import Known
from calibration.race.rounds.budget import Budget
from calibration.race.rounds.state import Race
from calibration.supervision.launch_spec import LaunchSpec
from tests.calibration.launches import checked, measured
from tests.calibration.tiny_engines.racing import entry

A, B, C = entry("a"), entry("b"), entry("c", prepares=True)
CONVERTING_S = 7.0


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def converting_s(candidates: Iterable[LaunchSpec]) -> float:
    return CONVERTING_S * sum(spec.variant.prepares for spec in candidates)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget(clock: Clock, budget_s: float | None) -> Budget:
    return Budget(Bounds(budget_s=budget_s), clock, converting_s)


def race(*waiting: LaunchSpec) -> Race:
    """In its first round of three."""
    begun = Race([A, B, C], Known(), cells=1, bounds=Bounds())
    begun.begin_round()
    begun.waiting = waiting
    return begun


def test_without_a_budget_everything_begins_and_nothing_is_spent(clock: Clock) -> None:
    endless = budget(clock, None)
    endless.count(A, 5.0)
    clock.now += 1e9
    endless.count(B, 5.0)
    assert (endless.deadline, endless.spent, endless.allows(C)) == (None, False, True)
    assert (endless.share_s(C, [A]), endless.reached(A, [B, C])) == (None, (B, C))


def test_before_anything_was_measured_a_launch_may_always_begin(clock: Clock) -> None:
    short = budget(clock, 1.0)
    assert (short.deadline, short.allows(C), short.spent) == (101.0, True, False)


@pytest.mark.parametrize(
    ("spec", "budget_s", "allowed"),
    [
        (A, 5.0, True),  # as its last launch took
        (A, 4.9, False),
        (B, 5.0, True),  # as the others took on average
        (B, 4.9, False),
        (C, 12.0, True),  # and its conversion
        (C, 11.9, False),
    ],
)
def test_a_launch_that_would_not_end_in_time_does_not_begin(
    spec: LaunchSpec, budget_s: float, allowed: bool, clock: Clock
) -> None:
    limited = budget(clock, 10.0 + budget_s)
    limited.count(A, 5.0)
    clock.now += 10.0
    assert (limited.allows(spec), limited.spent) == (allowed, not allowed)


def test_a_budget_that_ended_with_a_launch_is_spent(clock: Clock) -> None:
    limited = budget(clock, 10.0)
    clock.now += 9.9
    limited.count(A, None)
    assert not limited.spent
    clock.now += 0.1
    limited.count(A, None)
    assert limited.spent


def test_a_first_launch_has_three_times_its_share_of_what_is_left(clock: Clock) -> None:
    limited = budget(clock, 20.0)
    clock.now += 8.0
    assert limited.share_s(A, [B, C]) == pytest.approx(3.0 * 12.0 / 3)
    limited.count(A, None)
    assert limited.share_s(A, []) == pytest.approx(36.0), "it left nothing: its next launch is a first one again"
    limited.count(A, 1.0)
    assert limited.share_s(A, []) is None


def test_the_budget_reaches_those_whose_launch_still_ends_in_time(clock: Clock) -> None:
    limited = budget(clock, 22.0)
    limited.count(A, 5.0)
    assert limited.reached(A, [B, C]) == (B, C)
    clock.now += 0.1
    assert limited.reached(A, [B, C]) == (B,)
    clock.now += 20.0
    assert limited.reached(A, [B, C]) == ()


def test_before_anything_was_measured_only_conversions_count(clock: Clock) -> None:
    assert budget(clock, 0.5).reached(A, [B, C]) == (B,)


def test_the_time_that_is_left_counts_the_rest_of_the_round_and_the_rounds_to_come(clock: Clock) -> None:
    endless, limited = budget(clock, None), budget(clock, 30.0)
    assert (endless.remaining_s(A, race(B, C)), limited.remaining_s(A, race(B, C))) == (None, 30.0)
    for known in (endless, limited):
        known.count(A, 5.0)
        known.count(B, 3.0)
    # The rest of the round: 3 + 4 + the conversion; two rounds of 5 + 3 + 4.
    assert endless.remaining_s(B, race(C)) == pytest.approx(14.0 + 2 * 12.0)
    assert limited.remaining_s(B, race(C)) == pytest.approx(30.0)


def test_rounds_whose_times_are_known_are_not_to_come() -> None:
    quick, slow = entry("quick"), entry("slow")
    launches = [measured(number, candidate=quick.candidate, round=number) for number in (1, 2, 3)]
    check = checked(4, candidate=slow.candidate, round=2)
    bounds = Bounds(rounds=3)
    race = Race([quick, slow], Known(launches=[*launches, check]), cells=4, bounds=bounds)
    race.begin_round()
    assert [spec.label for spec in race.waiting] == ["scripted:quick", "scripted:slow"]
    assert [race.launches_left(label) for label in race.order] == [0, 2]
    budget = Budget(bounds, lambda: 0.0, lambda _specs: 0.0)
    assert budget.remaining_s(quick, race) is None, "nothing was launched yet"
    budget.count(quick, 10.0)
    budget.count(slow, 30.0)
    race.next_launch()
    assert budget.remaining_s(quick, race) == 10.0 + 30.0 + 2 * 30.0
    race.next_launch()
    assert budget.remaining_s(slow, race) == 30.0 + 2 * 30.0
