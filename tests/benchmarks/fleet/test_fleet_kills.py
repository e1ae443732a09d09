"""What the benchmark that kills parts of a fleet calls well, and how it goes on."""

import json
from collections import Counter
from dataclasses import asdict, replace

import pytest

from benchmarks.fleet.kills import Run, by_kind, run_of, twice

UNDISTURBED = {"a1 x": 1, "a2 x": 1, "b1 x": 1, "b2 x": 1}
WELL = Run(
    number=0, killed="driver", after_s=1.0, same=True, codes=(-9, 0), complete=True, launches=UNDISTURBED
)  # fmt: skip


def test_a_killed_driver_leaves_the_same_launches() -> None:
    assert WELL.well
    assert not replace(WELL, same=False).well
    assert replace(WELL, killed="a1", same=False, codes=(0, 0)).well  # the other of its kind took over


@pytest.mark.parametrize(
    "change",
    [
        {"complete": False},
        {"codes": (-9, 4)},
        {"codes": (None, 0)},
        {"lost": ("Alpha x",)},
        {"twice": ("a1 x",)},
        {"left": ("a1",)},
    ],
)
def test_what_is_not_well(change: dict[str, object]) -> None:
    assert not replace(WELL, **change).well  # type: ignore[arg-type]


def test_what_is_lost_is_of_a_kind_and_what_is_twice_of_a_host() -> None:
    taken_over = {"a1 x": 2, "b1 x": 1, "b2 x": 1}
    assert by_kind(UNDISTURBED) == by_kind(taken_over) == Counter({"Alpha x": 2, "Beta x": 2})
    assert list(twice(taken_over, UNDISTURBED)) == ["a1 x"]
    assert by_kind(UNDISTURBED) - by_kind({"a1 x": 1}) == Counter({"Alpha x": 1, "Beta x": 2})


def test_a_run_is_read_from_its_line() -> None:
    assert run_of(json.loads(json.dumps(asdict(WELL)))) == WELL
