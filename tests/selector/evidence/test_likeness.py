"""Which hosts of a group are not like the others."""

import math
import random

import pytest

from calibration.race.bounds import BAND
from selector.evidence.likeness import likenesses


def times(own: float, cv: float, draw: random.Random, models: int = 8) -> dict[str, dict[str, float]]:
    return {
        f"m{number}": {
            label: own * (number + 1) * factor * math.exp(draw.gauss(0.0, cv))
            for label, factor in (("best", 1.0), ("second", 1.1))
        }
        for number in range(models)
    }


def test_hosts_that_agree_are_alike_within_the_band() -> None:
    draw = random.Random(0)
    told = likenesses({name: times(1.0, 0.0, draw) for name in "abc"}, "cuda")
    assert all(one.alike and one.ratio == pytest.approx(1.0) and one.models == 8 for one in told.values())
    assert all(one.limit >= 1.0 + BAND for one in told.values())


def test_a_slower_host_is_found_beyond_the_noise() -> None:
    draw = random.Random(1)
    hosts = {f"h{number}": times(1.0, 0.025, draw) for number in range(20)} | {"slow": times(1.12, 0.025, draw)}
    told = likenesses(hosts, "cuda")
    assert [name for name, one in told.items() if not one.alike] == ["slow"]
    assert told["slow"].ratio == pytest.approx(1.12, rel=0.03)


def test_where_launches_vary_more_more_is_needed() -> None:
    draw = random.Random(2)
    steady, shaky = (
        likenesses({f"h{number}": times(1.0, cv, draw) for number in range(20)}, "cpu")["h0"].limit
        for cv in (0.03, 0.15)
    )
    assert steady < shaky


def test_a_model_whose_two_best_stand_otherwise_is_named() -> None:
    draw = random.Random(3)
    hosts = {f"h{number}": times(1.0, 0.0, draw) for number in range(5)}
    hosts["h0"]["m3"]["second"] *= 0.7
    told = likenesses(hosts, "cuda")
    assert told["h0"].turned == {"m3": pytest.approx(1.0 / 0.7)}
    assert not told["h0"].alike
    assert told["h1"].alike


def test_nobody_to_compare_with_says_nothing() -> None:
    alone = likenesses({"a": times(1.0, 0.0, random.Random(4))}, "cuda")["a"]
    assert (alone.models, alone.ratio, alone.alike) == (0, 1.0, True)
