"""Who comes next in a first round, told by what was launched."""

from dataclasses import replace

import pytest

from calibration.measurement import Candidate, Cell, Measurement, Sample
from calibration.race.history import hopeful_first
from calibration.supervision.launch_spec import LaunchSpec
from tests.calibration.engines.racing import CELLS, entry
from tests.calibration.launches import measured


def candidate(label: str) -> LaunchSpec:
    """Lossy where its name says int8 or int4."""
    backend, _, variant = label.partition(":")
    return replace(
        entry(variant, lossy=variant.startswith("int")), candidate=Candidate(backend=backend, variant=variant)
    )


def launched(label: str, times: float) -> Measurement:
    """So many times slower than a second."""
    sample = Sample(ttft_s=times, tpot_s=times, foreign_cores=0.0, dirty=False)
    cells = tuple(Cell(workload=w, samples=(sample,)) for w in CELLS)
    return measured(1, round=1, candidate=candidate(label).candidate, cells=cells)


@pytest.mark.parametrize(
    ("known", "order"),
    [
        ({}, "a:2 a:int8 b:2 b:int8"),
        ({"a:1": 1.0, "b:1": 1.0}, "a:2 a:int8 b:2 b:int8"),
        # All of its like that a has launched is beaten: the other comes last. Of its lossy ones nothing is known.
        ({"a:1": 3.0, "b:1": 1.0}, "a:int8 b:2 b:int8 a:2"),
        ({"a:1": 1.0, "a:3": 3.0, "b:1": 1.0}, "a:2 a:int8 b:2 b:int8"),
        ({"a:1": 1.0, "a:int4": 3.0, "b:1": 1.0}, "a:2 b:2 b:int8 a:int8"),
        # A lossy one puts no other out.
        ({"a:1": 3.0, "b:int4": 1.0}, "a:2 a:int8 b:2 b:int8"),
    ],
)
def test_variants_of_a_backend_that_is_beaten_come_last(known: dict[str, float], order: str) -> None:
    labels = ["a:2", "a:int8", "b:2", "b:int8"]
    waiting = [candidate(label) for label in labels]
    candidates = [*map(candidate, known), *waiting]
    launches = [launched(label, times) for label, times in known.items()]
    assert [spec.label for spec in hopeful_first(candidates, waiting, launches)] == order.split()
