"""What a race will probably still take: launches whose times are known are not counted."""

from calibration.race.budget import Budget
from calibration.race.history import Known
from calibration.race.state import Bounds, Race
from tests.calibration.engines.racing import entry
from tests.calibration.launches import checked, measured


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
