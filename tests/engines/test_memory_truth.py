"""The measuring of memory with real engines: a conversion, two workloads, and a run that goes on."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.memory_truth.compared import compared
from benchmarks.memory_truth.measure import measure
from calibration.workload import Workload
from selector.host.spec import HostSpec

pytestmark = pytest.mark.engine

LABELS = ("transformers:sdpa", "ctranslate2:float32")
WORKLOADS = [Workload(prompt_tokens=8, output_tokens=4, batch=batch) for batch in (1, 2)]


def test_a_run_measures_what_is_not_there(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "artifacts"))
    model = str(tiny("llama"))
    lines = list(measure(model, LABELS, WORKLOADS, (), keep=False))
    assert [(line["candidate"], line["kind"], line.get("workload")) for line in lines] == [
        ("ctranslate2:float32", "converting", None),
        ("ctranslate2:float32", "serving", "pp8:tg4:b1"),
        ("ctranslate2:float32", "serving", "pp8:tg4:b2"),
        ("transformers:sdpa", "serving", "pp8:tg4:b1"),
        ("transformers:sdpa", "serving", "pp8:tg4:b2"),
    ]
    for line in lines:
        assert line["peak_bytes"] > 50 << 20
        if line["kind"] == "serving":
            # Whatever the kernel has taken back meanwhile is not resident.
            assert 0 < line["resident_bytes"] <= line["peak_bytes"]
            assert line["loaded_bytes"] <= line["peak_bytes"]
    assert list(measure(model, LABELS, WORKLOADS, json.loads(json.dumps(lines)), keep=False)) == []
    [again] = measure(model, LABELS, WORKLOADS, lines[:-1], keep=False)
    assert again["workload"] == "pp8:tg4:b2"
    here = HostSpec.detect()
    errors = [one.error for one in compared(lines, {here.identifier: here})]
    assert len(errors) == len(lines)
    assert all(map(math.isfinite, errors))
    # A conversion that nobody asked to keep is gone.
    assert not list((tmp_path / "artifacts").glob("converted-*/content"))
