"""A load measured against `autobackend serve` with a real engine behind it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import Figure, Point
from tests.engines.served import serving
from tests.engines.tiny_configs import VOCAB

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("label", ["pp4-16:tg8:c3", "pp4-16:tg8:r4"])
def test_a_served_engine_is_measured(tiny: Callable[..., Path], tmp_path: Path, label: str) -> None:
    with serving(tiny("llama"), "--backend", "transformers:eager", "--slots", 2, folder=tmp_path) as server:
        there = LoadedServer(url=server.url, model=server.model, vocab_size=VOCAB, slots=2, pids=(server.process.pid,))
        point = run_load(there, Load.parse(label), Measuring(budget_s=30.0, requests=10))
        assert isinstance(point, Point), point
        told = server.metric("generation_tokens_total")
    assert (point.failures, point.saturated, len(point.sample)) == ((), "", 10)
    assert {asked.output_tokens for asked in point.sample} <= set(range(4, 13))
    # What the server counts is what was told, with the warm-up, and what a cut answer had by then.
    assert sum(asked.output_tokens for asked in point.asked if not asked.error) < told
    assert point.percentile(Figure.TTFT, 95) is not None and (point.output_tps or 0) > 0
    assert point.foreign_share is not None
    assert point.peak_memory_bytes > 100 << 20
