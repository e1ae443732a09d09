"""What a conversion is said to take, by what earlier ones took."""

from pathlib import Path

import pytest

from calibration.conversion.artifact import Artifact
from calibration.conversion.estimate import checkpoint_estimate

GIB = 2**30


def written(size: int, seconds: float) -> Artifact:
    return Artifact(path=Path("content"), key={"kind": "checkpoint"}, bytes=size, seconds=seconds, created_at=0.0)


def test_a_tiny_one_that_took_a_start_says_next_to_nothing_of_a_large_one() -> None:
    roughly = checkpoint_estimate(GIB, []).seconds
    assert roughly == pytest.approx(25.0)
    assert checkpoint_estimate(GIB, [written(100_000, 1.5)]).seconds == pytest.approx(roughly, rel=0.001)


@pytest.mark.parametrize(("took", "expected"), [(165.0, 160.3), (9.0, 13.5)])
def test_a_large_one_corrects_the_rough_rate(took: float, expected: float) -> None:
    # 85 s by the rough rate, which weighs as much as a sixteenth of the 4 GiB.
    found = checkpoint_estimate(4 * GIB, [written(4 * GIB, took)])
    assert found.seconds == pytest.approx(expected, abs=0.05)


def test_nothing_to_write_takes_a_start() -> None:
    assert checkpoint_estimate(0, []).seconds == pytest.approx(5.0)
