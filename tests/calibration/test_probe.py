"""What a probe reached: the best repeat counts."""

import pytest

from calibration.codec import from_plain, to_plain
from calibration.probe import Probe, Reached
from tests.calibration.probes import GIVEN


def test_the_best_repeat_counts_and_the_spread_is_how_far_the_median_lies_below() -> None:
    bandwidth = GIVEN.bandwidth_gbs
    assert (bandwidth.all, bandwidth.one) == (40.0, 25.0)
    assert bandwidth.spread == pytest.approx(1 - 39 / 40)


def test_an_accelerator_has_no_cores() -> None:
    assert Reached(samples=(1500.0,)).one is None


def test_a_probe_is_read_as_it_was_written() -> None:
    assert from_plain(Probe, to_plain(GIVEN)) == GIVEN


def test_a_probe_without_a_sample_is_none() -> None:
    plain = to_plain(GIVEN)
    plain["bandwidth_gbs"]["samples"] = []
    with pytest.raises(ValueError, match="needs a list with something in it in bandwidth_gbs.samples"):
        from_plain(Probe, plain)
