"""The axes of a map as they are typed."""

import pytest

from calibration.errors import UsageError
from calibration.workload import Workload
from selector.map.axes import Axes


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("64:8192", (64, 128, 256, 512, 1024, 2048, 4096, 8192)),
        ("100:1000", (100, 200, 400, 800, 1000)),
        ("7:7", (7,)),
        ("1:2", (1, 2)),
        ("512", (512,)),
        ("16,1,4,4", (1, 4, 16)),
    ],
)
def test_a_range_is_doubled_through_and_a_list_is_sorted(typed: str, values: tuple[int, ...]) -> None:
    assert Axes.parse(typed, "8", "1").prompts == values
    assert Axes.parse("8", typed, "1").outputs == values
    assert Axes.parse("8", "8", typed).batches == values


@pytest.mark.parametrize("typed", ["", "64:", ":64", "8:4", "0:4", "0", "1,,4", "many", "-4", "1:2:3", "64:12345678"])
def test_anything_else_is_refused_with_the_option(typed: str) -> None:
    for option, axes in (("--prompts", (typed, "8", "1")), ("--batches", ("8", "8", typed))):
        with pytest.raises(UsageError) as error:
            Axes.parse(*axes)
        assert (error.value.message, error.value.mend) == (
            f"unknown {option} {typed!r}",
            "write a range like 64:8192 or a list like 1,4,16",
        )


def test_a_map_has_an_end() -> None:
    many = ",".join(map(str, range(1, 65)))
    with pytest.raises(UsageError, match="needs a map of at most 4000 workloads; found 4096"):
        Axes.parse(many, many, "1")


def test_by_its_places_a_workload_is_found() -> None:
    assert Axes.parse("64:256", "8,16", "1,4").at(2, 1, 0) == Workload(prompt_tokens=256, output_tokens=16, batch=1)
