"""A load through HTTP against what `autobackend serve` starts: two real engines, from the command to the answer."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.measurement import OutputVerdict, Served
from selector.host.spec import HostSpec
from selector.planning.calibrate import calibrate
from selector.selection import choose

pytestmark = [pytest.mark.engine, pytest.mark.slow]

LOAD = "pp16:tg8:c2"
BACKENDS = ("openvino:fp32-pa", "transformers:sdpa")


def test_two_engines_are_served_loaded_ranked_and_gone(tiny: Callable[..., Path], tmp_path: Path) -> None:
    model = tiny("llama")
    host = HostSpec.detect()
    with Cache.open(tmp_path / "cache.db") as cache:
        calibration = calibrate(
            model,
            workload=LOAD,
            objective="throughput",
            backends=BACKENDS,
            cache=cache,
            host=host,
            rounds=1,
            store=ArtifactStore(tmp_path / "artifacts"),
        )
        launches = [o for o in cache.all() if isinstance(o, Served)]
        chosen = choose(model, workload=LOAD, objective="throughput", cache=cache, host=host)
    assert calibration.served is not None
    assert {launch.candidate.label for launch in launches} == set(BACKENDS)
    for launch in launches:
        assert launch.agreement.verdict is OutputVerdict.RIGHT
        assert launch.as_served.verdict is OutputVerdict.RIGHT
        for point in launch.points:
            assert not point.failures
            assert {asked.output_tokens for asked in point.answered} <= set(range(4, 13))
            assert all(asked.cached_tokens == 0 for asked in point.answered)
            assert point.peak_memory_bytes > 50 << 20
    assert chosen.source == "measured"
    assert {one.candidate.label for one in chosen.served} == set(BACKENDS)
    assert [s.candidate for s in calibration.selections] == [chosen.candidate]
    assert not [p for p in psutil.Process().children(recursive=True) if "serve" in " ".join(p.cmdline())]
