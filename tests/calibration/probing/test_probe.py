"""What a probe reached: the best repeat counts."""

import pytest

from calibration.codec import from_plain, to_plain
from calibration.probing.probe import Probe, Reached
from tests.calibration.probes import GIVEN


def test_the_best_repeat_counts_and_the_spread_is_how_far_the_median_lies_below() -> None:
    bandwidth = GIVEN.bandwidth_gbs
    assert (bandwidth.all, bandwidth.one) == (40.0, 25.0)
    assert bandwidth.spread == pytest.approx(1 - 39 / 40)


def test_all_cores_reach_at_least_what_one_does() -> None:
    """Where other programs used the CPU while all cores were timed, one alone may have been faster."""
    disturbed = Reached(samples=(14.0, 13.0), samples_of_one_core=(16.0,))
    assert (disturbed.all, disturbed.one) == (16.0, 16.0)
    assert disturbed.spread == pytest.approx(1 - 13.5 / 14)


def test_json_tells_the_best_and_the_spread_beside_the_samples() -> None:
    told = GIVEN.to_json()
    assert told["bandwidth_gbs"] == {
        "all_cores": 40.0,
        "one_core": 25.0,
        "spread": pytest.approx(0.025),
        "samples": [39.0, 40.0, 38.0],
        "samples_of_one_core": [24.0, 25.0],
        "way": "int64 sum (torch)",
    }
    assert list(told["rates"]) == ["float32", "bfloat16", "int8"]
    assert told["rates"]["int8"]["all_cores"] == 1600.0


def test_an_accelerator_has_no_cores() -> None:
    assert Reached(samples=(1500.0,)).one is None


def test_a_probe_is_read_as_it_was_written() -> None:
    assert from_plain(Probe, to_plain(GIVEN)) == GIVEN


def test_a_probe_without_a_sample_is_none() -> None:
    plain = to_plain(GIVEN)
    plain["bandwidth_gbs"]["samples"] = []
    with pytest.raises(ValueError, match="needs a list with something in it in bandwidth_gbs.samples"):
        from_plain(Probe, plain)
