"""What a screen says of figures that were measured more than once."""

from dataclasses import replace

from calibration.measurement import Cell, Measurement
from selector.screens.text import Observed, decode, prefill, rate
from tests.selector.launches import model_and_host, rounds

_, HOST, KEY = model_and_host()
CELL = 1
"""Place of the cell that is looked at."""


def test_launches_that_agree_have_the_interval_that_launches_are_known_to_have() -> None:
    agreeing = [Observed(values=(719.0,) * launches, launch_cv=0.12) for launches in (1, 2, 3, 5)]
    assert [rate(observed) for observed in agreeing] == [
        "719 ± 171 tok/s",
        "719 ± 120 tok/s",
        "719 ± 59 tok/s",
        "719 ± 21 tok/s",
    ]


def with_a_dirty_sample(launch: Measurement) -> Measurement:
    cell = launch.cells[CELL]
    samples = (replace(cell.samples[0], dirty=True), *cell.samples[1:])
    cells = list(launch.cells)
    cells[CELL] = Cell(workload=cell.workload, samples=samples)
    return replace(launch, cells=tuple(cells))


def test_each_launch_has_one_speed_the_median_of_its_clean_samples() -> None:
    first, second = rounds("transformers:sdpa", KEY, HOST, (1.0, 1.3))
    launches = [with_a_dirty_sample(first), second]
    workload = first.cells[CELL].workload
    cells = [launch.cells[CELL] for launch in launches]
    tokens = workload.prompt_tokens * workload.batch
    assert prefill(launches, workload, 0.1) == Observed(
        values=tuple(tokens / cell.ttft_s for cell in cells), launch_cv=0.1
    )
    assert decode(launches, workload, 0.1) == Observed(
        values=tuple(workload.batch / (cell.tpot_s or 0.0) for cell in cells), launch_cv=0.1
    )
    assert prefill(launches[:1], workload, 0.1) == Observed(values=(tokens / cells[0].ttft_s,), launch_cv=0.1)
    # Of three samples the first is dirty: the median is the mean of the others.
    assert cells[0].ttft_s == sum(sample.ttft_s for sample in cells[0].samples[1:]) / 2


def test_a_workload_that_was_not_measured_has_no_speeds() -> None:
    launches = rounds("transformers:sdpa", KEY, HOST, (1.0, 1.3))
    longer = replace(launches[0].cells[CELL].workload, prompt_tokens=4096)
    assert not prefill(launches, longer, 0.1)
    assert not decode(launches, longer, 0.1)
