"""The study of served loads on real engines: prepared, served in two rounds, reported."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.served.study import main
from calibration.cache.cache import Cache
from calibration.measurement import Check, OutputVerdict, Served

pytestmark = [pytest.mark.engine, pytest.mark.slow]

BACKENDS = ("openvino:fp32-pa", "transformers:sdpa")
LEVELS = ("pp16:tg8:c4", "pp16:tg8:c2", "pp16:tg8:c1")


def test_a_tiny_model_from_its_conversion_to_the_report(
    tiny: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--cache", str(tmp_path / "served.db"), "--load", "pp16:tg8", "--streams", "1,2,4"]
    model = [str(tiny("llama")), "--backends", ",".join(BACKENDS)]
    assert main(["prepare", *common, *model]) == 0
    with Cache.open(tmp_path / "served.db") as cache:
        checks = [o for o in cache.all() if isinstance(o, Check)]
    assert {check.candidate.label: check.agreement.verdict for check in checks} == dict.fromkeys(
        BACKENDS, OutputVerdict.RIGHT
    )
    assert main(["measure", *common, *model, "--requests", "6"]) == 0
    said = capsys.readouterr().out
    assert "nothing is missing" in said
    with Cache.open(tmp_path / "served.db") as cache:
        outcomes = list(cache.all())
    assert [o for o in outcomes if isinstance(o, Check)] == checks, "nobody is checked twice"
    launches = [o for o in outcomes if isinstance(o, Served) and o.points[0].load.label == LEVELS[0]]
    first = [launch for launch in launches if launch.round == 1]
    assert {launch.candidate.label for launch in first} == set(BACKENDS), said
    assert {launch.round for launch in launches} >= {1, 2}
    for launch in launches:
        assert tuple(point.load.label for point in launch.points) == LEVELS
        assert all(len(point.answered) == 6 for point in launch.points)
    assert main(["report", *common, "--markdown"]) == 0
    page = capsys.readouterr().out
    assert "### What was served\n" in page
    assert "### The pick, equal precision\n" in page
