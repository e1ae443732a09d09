"""What ships is what results/ gives."""

from pathlib import Path

import pytest

from calibration.workload import Workload
from selector.predict.distil import distil, text_of
from selector.predict.known import shipped
from selector.predict.times.times import Observed
from selector.predict.times.variances import estimate

ROOT = Path(__file__).resolve().parents[4]


def test_the_shipped_file_is_what_results_give() -> None:
    """If this fails, write it anew: python -m selector.predict.distil results"""
    given = distil(ROOT / "results")
    kept = {name: shipped.content()[name] for name in given}
    assert text_of(kept) == text_of(given)


def test_the_shipped_file_is_small() -> None:
    assert shipped.SHIPPED.stat().st_size < 1_000_000


def test_it_tells_where_a_time_is_from() -> None:
    timing = shipped.shipped()[0]
    assert timing.host.device == "AMD EPYC (x86_64_v4), 2 cores"
    assert (timing.model, timing.label, timing.output) == ("shape:gemma-3-270m", "llamacpp:bf16", "right")
    assert timing.environment["xllamacpp"] == "2026.10.11549"
    cell = timing.cells[Workload.parse("pp128:tg32:b1")]
    assert (cell.launches, cell.ttft_s, cell.tpot_s) == (1, 0.2476, 0.01685)


def test_the_variances_are_estimated_from_the_rows() -> None:
    observed = Observed.of(shipped.shipped())
    for name, of in estimate(observed, ["tpot level"]).items():
        kept = shipped.content()["variances"][name]
        assert of == pytest.approx({term: kept.get(term, 0.0) for term in of}, rel=0.02, abs=1e-5)
