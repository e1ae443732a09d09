"""Whether there is time for one more launch, and how much of the budget a first one may take."""

from calibration.served.pace import Pace
from calibration.served.standings import Arm
from calibration.supervision.deadline import Deadline

A, B = Arm(label="a", threads=2), Arm(label="b", threads=2)


def pace(left_s: float | None, least_s: float = 0.0) -> Pace:
    return Pace(Deadline(left_s, lambda: 0.0), 3.0, least_s)


def test_without_a_budget_all_may_begin() -> None:
    free = pace(None, least_s=600.0)
    assert (free.affords(A), free.share_s(A, [B]), free.left_s(A, [B])) == (True, None, None)


def test_a_launch_begins_where_as_long_as_launches_took_is_left() -> None:
    limited = pace(100.0)
    assert limited.affords(A)
    limited.count("a", 120.0)
    assert not limited.affords(A)
    assert not limited.affords(B), "nobody knows better of the others"
    limited.count("b", 80.0)
    assert limited.affords(B)


def test_a_trace_begins_only_where_it_fits_also_before_anything_is_known() -> None:
    assert not pace(100.0, least_s=101.0).affords(A)
    fits = pace(100.0, least_s=99.0)
    assert fits.affords(A)
    fits.count("b", 20.0)  # it was given up
    assert fits.affords(B)
    assert not pace(98.0, least_s=99.0).affords(B)


def test_a_first_launch_has_a_share_and_one_of_a_trace_the_whole() -> None:
    assert pace(100.0).share_s(A, [B, B]) == 60.0
    assert pace(100.0, least_s=10.0).share_s(A, [B, B]) is None
    known = pace(100.0)
    known.count("a", 10.0)
    assert (known.share_s(A, [B]), known.share_s(B, [])) == (None, 100.0)
