"""What a launch leaves: times from the arrival of tokens, cells by their clean samples, records that JSON can hold."""

import math
from dataclasses import asdict, fields, replace

import pytest

from calibration.measurement import (
    Agreement,
    Candidate,
    Cell,
    Check,
    FailureKind,
    OutputVerdict,
    Sample,
    from_json,
    timing,
    to_json,
)
from calibration.workload import Workload
from tests.calibration.launches import IDENTITY, failed, measured


@pytest.mark.parametrize(
    ("arrivals", "ttft_s", "tpot_s"),
    [
        ([[0.5, 0.75, 1.0]], 0.5, 0.25),
        ([[0.5]], 0.5, None),
        ([[0.5, 0.5]], 0.5, None),
        # A first chunk of two tokens: what comes after it is divided by its own number.
        ([[0.5, 0.5, 0.75, 1.0]], 0.5, 0.25),
        # The last sequence to begin sets the TTFT, the last to end the end; the longest rest counts.
        ([[0.25, 1.0, 1.5], [0.5, 1.0, 1.25]], 0.5, 0.5),
        ([[0.5, 1.0, 1.5], [0.5, 1.5]], 0.5, 0.5),
        ([[0.5, 1.5], [0.5, 1.0, 1.5]], 0.5, 0.5),
    ],
)
def test_times_are_told_by_the_arrival_of_tokens(
    arrivals: list[list[float]], ttft_s: float, tpot_s: float | None
) -> None:
    assert timing(arrivals) == (ttft_s, tpot_s)


def cell(*samples: tuple[float, float | None, bool]) -> Cell:
    return Cell(
        workload=Workload(prompt_tokens=4, output_tokens=4),
        samples=tuple(Sample(ttft_s=ttft, tpot_s=tpot, dirty=dirty) for ttft, tpot, dirty in samples),
    )


@pytest.mark.parametrize(
    ("samples", "ttft_s", "tpot_s"),
    [
        ([(1.0, 0.1, False), (5.0, 0.2, False), (2.0, 0.6, False)], 2.0, 0.2),
        ([(1.0, 0.1, False), (9.0, 0.9, True)], 1.0, 0.1),
        ([(1.0, 0.1, True), (9.0, 0.9, True), (2.0, 0.3, True)], 2.0, 0.3),
        ([(1.0, None, False), (3.0, 0.2, False)], 2.0, 0.2),
        ([(1.0, None, False)], 1.0, None),
    ],
)
def test_a_cell_has_the_medians_of_its_undisturbed_samples(
    samples: list[tuple[float, float | None, bool]], ttft_s: float, tpot_s: float | None
) -> None:
    assert (cell(*samples).ttft_s, cell(*samples).tpot_s) == (ttft_s, tpot_s)


def test_a_candidate_is_named_by_its_backend_and_its_variant() -> None:
    assert Candidate(backend="transformers", variant="sdpa").label == "transformers:sdpa"


def test_verdicts_and_failures_are_kept_under_the_words_that_are_shown() -> None:
    assert [*OutputVerdict] == ["right", "lossy", "wrong", "unchecked"]
    assert [*FailureKind] == ["crashed", "timed out", "out of memory", "refused", "wrong output"]


def test_times_go_by_everything_but_the_config() -> None:
    here, there = replace(IDENTITY, config="a"), replace(IDENTITY, config="b")
    assert here.shape == there.shape == tuple(v for name, v in asdict(IDENTITY).items() if name != "config")


def test_records_come_back_equal() -> None:
    checked = Check(**{field.name: getattr(measured(3), field.name) for field in fields(Check)})
    outcomes = measured(1), checked, failed(2)
    assert [to_json(outcome)["record"] for outcome in outcomes] == ["measurement", "check", "failure"]
    assert tuple(from_json(to_json(outcome)) for outcome in outcomes) == outcomes


def test_a_sample_is_undisturbed_where_a_record_does_not_say_otherwise() -> None:
    record = to_json(measured(1))
    record["cells"] = [
        {"workload": one["workload"], "samples": [{"ttft_s": 1.0, "tpot_s": None}]} for one in record["cells"]
    ]
    assert {sample for one in from_json(record).cells for sample in one.samples} == {  # type: ignore[union-attr]
        Sample(ttft_s=1.0, tpot_s=None, foreign_cores=0.0, dirty=False)
    }


@pytest.mark.parametrize("field", ["kl", "max_diff"])
@pytest.mark.parametrize(("value", "kept"), [(math.inf, None), (math.nan, None), (0.25, 0.25), (None, None)])
def test_a_divergence_that_is_no_number_is_kept_as_not_measured(
    field: str, value: float | None, kept: float | None
) -> None:
    divergence = {"kl": 0.5, "max_diff": 0.5, field: value}
    agreement = Agreement(verdict=OutputVerdict.WRONG, kl=divergence["kl"], max_diff=divergence["max_diff"])
    record = to_json(measured(1, agreement=agreement))
    assert record["agreement"] == {
        "verdict": "wrong", "kl": 0.5, "max_diff": 0.5, "top1": None, "detail": "", field: kept,
    }  # fmt: skip


def test_a_divergence_near_0_may_be_rounded_below_it() -> None:
    record = to_json(measured(1))
    for kl in (-1e-9, -1.0):
        record["agreement"]["kl"] = kl
        assert from_json(record) == measured(1, agreement=replace(measured(1).agreement, kl=kl))
    record["agreement"]["kl"] = -1.5
    with pytest.raises(ValueError, match=r"agreement\.kl"):
        from_json(record)


def test_a_launch_without_cells_and_a_cell_without_samples_are_refused() -> None:
    record = to_json(measured(1))
    with pytest.raises(ValueError, match=r"in cells; found \[\]"):
        from_json({**record, "cells": []})
    with pytest.raises(ValueError, match=r"in cells\[0\]\.samples; found \[\]"):
        from_json({**record, "cells": [{**record["cells"][0], "samples": []}]})


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (["x"], "needs an object; found ['x']"),
        ("y" * 60, f"needs an object; found '{'y' * 39}"),
        ({"record": ["check"]}, "needs a record of measurement, check, served, failure, unserved; found ['check']"),
        ({"record": "z"}, "needs a record of measurement, check, served, failure, unserved; found 'z'"),
        ({}, "needs a record of measurement, check, served, failure, unserved; found None"),
    ],
)
def test_what_is_no_record_is_refused(record: object, sentence: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the whole sentence is compared
        from_json(record)
    assert str(refusal.value) == sentence
