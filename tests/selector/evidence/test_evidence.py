"""What select() takes as evidence: stale, transferred and failed launches."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.measurement import FailureKind
from selector import SelectionWarning, select
from selector.answer import Source
from tests.selector.answering import (
    ARM,
    ARM_KEY,
    CT2,
    EAGER,
    HOST,
    KEY,
    MODEL,
    SDPA,
    all_labels,
    answer,
    labels,
    with_versions,
)
from tests.selector.launches import (
    DAY,
    failure,
    other_size,
    rounds,
)


def test_stale_says_what_changed(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0), environment=with_versions(torch="2.12.0")))
    with pytest.warns(SelectionWarning, match="torch 2.12.0 -> 2.13.0"):
        found = select(MODEL, cache=cache, host=HOST)
    assert (found.source, found.candidate.label) == ("stale", SDPA)
    (stale,) = found.to_json()["stale"]
    assert stale == {
        "candidate": SDPA,
        "differences": ["torch 2.12.0 -> 2.13.0"],
        "e2e_s": pytest.approx(1.034 + 127 * 0.022),
    }


def test_another_measuring_policy_is_stale(cache: Cache) -> None:
    found = answer(cache, *rounds(SDPA, KEY, HOST, (1.0,), policy="0"))
    assert (found.source, found.stale[0].differences) == (Source.STALE, ("measuring policy 0 -> 2",))


def test_a_stale_candidate_does_not_compete_but_is_said_when_it_was_faster(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(CT2, KEY, HOST, (2.0, 2.0)),
        *rounds(SDPA, KEY, HOST, (1.0, 1.0), environment=with_versions(torch="2.12.0")),
    )
    assert (found.source, found.candidate.label, labels(found)) == (Source.MEASURED, CT2, [CT2])
    assert found.notes == (
        (
            "transformers:sdpa was faster before torch 2.12.0 -> 2.13.0."
            " Measure it again: autobackend calibrate shape:smollm2-135m"
        ),
    )


def test_todays_launches_replace_stale_ones(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(SDPA, KEY, HOST, (1.0,), environment=with_versions(torch="2.12.0")),
        *rounds(SDPA, KEY, HOST, (3.0,), calibration="c2", at=DAY + 3600),
        workload="pp100:tg11:b2",
    )
    assert (found.source, found.stale) == (Source.MEASURED, ())
    assert found.ranking[0].e2e_s == pytest.approx(3 * 0.650)


def test_another_size_on_this_host_is_transferred(cache: Cache) -> None:
    launches = rounds(SDPA, other_size(ARM_KEY), ARM, (1.0, 1.0), model="shape:smollm2-360m")
    found = answer(cache, *launches, host=ARM)
    assert (found.source, found.candidate.label, found.stale) == (Source.TRANSFERRED, SDPA, ())
    assert found.notes == ("shape:smollm2-360m was measured here; shape:smollm2-135m was not",)


def test_this_model_on_another_host_comes_before_another_size_here(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(SDPA, other_size(KEY), HOST, (1.0,), at=DAY + 86400),
        *rounds(EAGER, replace(KEY, host="b" * 12), HOST, (1.0,)),
    )
    assert (found.source, found.candidate.label) == (Source.TRANSFERRED, EAGER)
    assert found.notes == ("shape:smollm2-135m was measured on another host with the same device, not here",)


@pytest.mark.parametrize("change", [{"device_count": 2}, {"dtype": "float32"}, {"device": "another"}, {"quant": "awq"}])
def test_never_transferred(cache: Cache, change: dict[str, object]) -> None:
    found = answer(cache, *rounds(EAGER, replace(KEY, **change), HOST, (1.0,)))  # type: ignore[arg-type]
    assert (found.source, found.ranking) == (Source.PREDICTED, ())


def test_what_failed_here_is_not_transferred(cache: Cache) -> None:
    other = other_size(ARM_KEY)
    found = answer(
        cache,
        *rounds(EAGER, other, ARM, (1.0,)),
        *rounds(SDPA, other, ARM, (2.0,)),
        failure(EAGER, ARM_KEY, ARM),
        host=ARM,
    )
    assert (found.source, found.candidate.label, labels(found)) == (Source.TRANSFERRED, SDPA, [SDPA])


def test_a_failure_is_told_and_never_chosen(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(CT2, KEY, HOST, (0.5,)),
        failure(CT2, KEY, HOST, round_=2, kind=FailureKind.OUT_OF_MEMORY, stage="pp512:tg32:b4", message="no memory"),
        *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
    )
    assert (found.candidate.label, labels(found)) == (SDPA, [SDPA])
    assert found.to_json()["failed"] == [{"candidate": CT2, "kind": "out of memory", "message": "no memory"}]


def test_what_only_failed_is_not_the_static_choice_while_another_is_left(cache: Cache) -> None:
    first, second = all_labels(ARM)[:2]
    found = answer(cache, failure(first, ARM_KEY, ARM), host=ARM)
    assert (found.source, found.candidate.label) == (Source.RULES, second)


def test_when_all_failed_the_first_is_tried_with_a_warning(cache: Cache) -> None:
    found = answer(cache, *(failure(label, KEY, HOST) for label in all_labels()))
    assert (found.source, found.candidate.label) == (Source.RULES, all_labels()[0])
    assert found.warnings == (
        (
            f"{all_labels()[0]} failed here: crashed, the worker was killed by signal 11."
            f" Measure again: autobackend calibrate {MODEL}"
        ),
    )
