"""What a screen says of figures that were measured more than once."""

from dataclasses import replace

from calibration.cost import PRIOR_CV, REPEAT_CV
from calibration.measurement import Cell, Measurement
from selector.screens.text import Observed, decode, prefill, rate
from tests.selector.launches import model_and_host, rounds

_, HOST, KEY = model_and_host()
CELL = 1
"""Place of the cell that is looked at."""


def test_one_value_has_no_interval() -> None:
    assert rate(Observed(values=(306.2,))) == "306 tok/s"


def test_two_values_that_agree_have_the_interval_of_such_values() -> None:
    one_launch, two_launches = Observed(values=(719.0, 719.0), prior_cv=0.05), Observed(values=(719.0, 719.0))
    assert [rate(one_launch), rate(two_launches)] == ["719 ± 50 tok/s", "719 ± 120 tok/s"]


def with_a_dirty_sample(launch: Measurement) -> Measurement:
    cell = launch.cells[CELL]
    samples = (replace(cell.samples[0], dirty=True), *cell.samples[1:])
    cells = list(launch.cells)
    cells[CELL] = Cell(workload=cell.workload, samples=samples)
    return replace(launch, cells=tuple(cells))


def test_the_speeds_of_one_launch_are_those_of_its_clean_samples() -> None:
    (launch,) = map(with_a_dirty_sample, rounds("transformers:sdpa", KEY, HOST, (1.0,)))
    cell = launch.cells[CELL]
    tokens = cell.workload.prompt_tokens * cell.workload.batch
    second, third = cell.samples[1:]
    assert second.tpot_s and third.tpot_s
    assert prefill([launch], cell.workload) == Observed(
        values=(tokens / second.ttft_s, tokens / third.ttft_s), prior_cv=REPEAT_CV
    )
    assert decode([launch], cell.workload) == Observed(
        values=(cell.workload.batch / second.tpot_s, cell.workload.batch / third.tpot_s), prior_cv=REPEAT_CV
    )


def test_the_speeds_of_several_launches_are_one_each() -> None:
    launches = rounds("transformers:sdpa", KEY, HOST, (1.0, 1.3))
    workload = launches[0].cells[CELL].workload
    tokens = workload.prompt_tokens * workload.batch
    first, second = (launch.cells[CELL] for launch in launches)
    assert first.tpot_s and second.tpot_s
    assert prefill(launches, workload) == Observed(
        values=(tokens / first.ttft_s, tokens / second.ttft_s), prior_cv=PRIOR_CV
    )
    assert decode(launches, workload) == Observed(
        values=(workload.batch / first.tpot_s, workload.batch / second.tpot_s), prior_cv=PRIOR_CV
    )


def test_a_workload_that_was_not_measured_has_no_speeds() -> None:
    launches = rounds("transformers:sdpa", KEY, HOST, (1.0, 1.3))
    longer = replace(launches[0].cells[CELL].workload, prompt_tokens=4096)
    assert not prefill(launches, longer)
    assert not decode(launches, longer)
