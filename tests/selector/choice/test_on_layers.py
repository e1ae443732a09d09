"""Answers that stand on launches of a model's first layers, and those that do not although there are some."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.errors import TargetsMissed
from calibration.measurement import FailureKind, Identity
from calibration.rung import Rung
from selector.answer import Source
from selector.screens.calibration.results import verdict
from selector.screens.select import why
from selector.selection import choose
from tests.selector.answering import (
    ARM,
    ARM_KEY,
    EAGER,
    HOST,
    KEY,
    MODEL,
    SDPA,
    answer,
    labels,
    with_versions,
)
from tests.selector.launches import DAY, LOSSY, failure, rounds

CALIBRATE = f"autobackend calibrate {MODEL}"


def on_layers(layers: int, key: Identity = ARM_KEY) -> Identity:
    return replace(key, cut=Rung(layers=layers, of=30).cut)


def test_an_answer_on_layers_that_is_predicted_to_miss_its_targets_is_an_error_when_strict(cache: Cache) -> None:
    """Without targets it is none: something was measured."""
    cache.add(*rounds(SDPA, on_layers(6, KEY), HOST, (1.0, 1.0)), *rounds(EAGER, on_layers(6, KEY), HOST, (2.0, 2.0)))
    assert choose(MODEL, cache=cache, host=HOST, strict=True).source == Source.LAYERS
    with pytest.raises(TargetsMissed) as error:
        choose(MODEL, cache=cache, host=HOST, strict=True, ttft_s=0.001)
    assert "is predicted to miss TTFT <= 0.001 s (TTFT " in error.value.message
    assert error.value.message.endswith("; < 1 % likely to meet), not measured")
    assert choose(MODEL, cache=cache, host=HOST, strict=True, ttft_s=1000.0).source == Source.LAYERS


def test_launches_on_a_few_layers_answer_by_what_they_let_one_expect(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(SDPA, on_layers(6), ARM, (0.2, 0.2), at=DAY),
        *rounds(EAGER, on_layers(6), ARM, (0.5,), at=DAY, agreement=LOSSY),
        *rounds(EAGER, on_layers(3), ARM, (0.3,), at=DAY),
        host=ARM,
    )
    assert (found.source, found.candidate.label, found.ranking) == (Source.LAYERS, SDPA, ())
    assert found.prediction is not None
    assert [row.candidate for row in found.prediction.predicted] == [SDPA, EAGER]
    assert found.to_json()["layers"] == [
        {"candidate": SDPA, "layers": 6, "of": 30, "n": 2, "output": "right", "kl": 1e-9},
        {"candidate": EAGER, "layers": 6, "of": 30, "n": 1, "output": "lossy", "kl": 0.012},
    ]
    row = found.expected
    assert row is not None
    assert found.warnings == (
        (
            f"{SDPA} was measured on 6 of 30 layers of {MODEL} alone; the whole is predicted to take {row.e2e_s:.3g} s"
            f" ({row.ci90[0]:.3g} to {row.ci90[1]:.3g} s). Make sure: {CALIBRATE} --full"
        ),
    )
    # More than a fifth of the layers took more than 0.2 of the whole: not the time of the cut model itself.
    assert row.e2e_s > 2 * 0.2 * (1.034 + 127 * 0.022)
    assert set(labels(found)).isdisjoint({SDPA, EAGER})
    assert choose(MODEL, cache=cache, host=ARM, strict=True) is not None


def test_the_screen_of_layers_says_the_depth_of_each(cache: Cache) -> None:
    launches = (
        *rounds(SDPA, on_layers(6), ARM, (0.2, 0.2), at=DAY),
        *rounds(EAGER, on_layers(3), ARM, (0.5,), at=DAY, agreement=LOSSY),
    )
    lines = why(answer(cache, *launches, host=ARM), now=DAY + 3 * 86400 + 120)
    assert lines[0] == (
        f"{SDPA}, measured here on 6 of 30 layers and 3 of 30 layers 3 days ago (3 launches, 2 candidates);"
        " the times of the whole model are predicted, for pp512:tg128:b1"
    )
    assert lines[1].split() == [
        "candidate",
        "expected",
        "90",
        "%",
        "of",
        "launches",
        "P(best)",
        "TTFT",
        "TPOT",
        "measured",
    ]
    assert [(line.split()[0], line.rpartition("  ")[2]) for line in lines[2:4]] == [
        (SDPA, "6 of 30 layers, right"),
        (EAGER, "3 of 30 layers, lossy (KL 0.012)"),
    ]
    assert lines[4].startswith(f"  {SDPA} is expected to take ")


def test_layers_never_pass_for_the_whole_model(cache: Cache) -> None:
    """Whoever was measured whole comes first, and who was slower on the same layers is no rival."""
    found = answer(
        cache,
        *rounds(SDPA, on_layers(6), ARM, (0.2,)),
        *rounds(EAGER, on_layers(6), ARM, (0.4,)),
        *rounds(SDPA, ARM_KEY, ARM, (1.0, 1.0), calibration="c2"),
        host=ARM,
    )
    assert (found.source, found.candidate.label, labels(found)) == (Source.MEASURED, SDPA, [SDPA])
    assert found.prediction is None
    assert [depth.record.candidate.label for depth in found.layers] == [SDPA, EAGER]
    assert [" ".join(line.split()) for line in why(found) if "layers" in line] == [
        f"on layers: {EAGER} (6 of 30 layers, right)"
    ]


def test_who_was_far_faster_on_the_same_layers_answers_before_who_was_measured_whole(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(SDPA, on_layers(6), ARM, (0.2,)),
        *rounds(EAGER, on_layers(6), ARM, (0.02,)),
        *rounds(SDPA, ARM_KEY, ARM, (1.0, 1.0), calibration="c2"),
        host=ARM,
    )
    assert (found.source, found.candidate.label, labels(found)) == (Source.LAYERS, EAGER, [SDPA])


def test_a_failure_on_layers_takes_a_candidate_out_until_the_whole_was_measured(cache: Cache) -> None:
    wrong = failure(SDPA, on_layers(6), ARM, kind=FailureKind.WRONG_OUTPUT, stage="check", message="diverges")
    found = answer(cache, wrong, *rounds(EAGER, on_layers(3), ARM, (0.5,)), host=ARM)
    assert (found.source, found.candidate.label) == (Source.LAYERS, EAGER)
    assert [f.candidate.label for f in found.failed] == [SDPA]
    whole = answer(cache, *rounds(SDPA, ARM_KEY, ARM, (0.1, 0.1), calibration="c2"), host=ARM)
    assert (whole.source, whole.candidate.label, whole.failed) == (Source.MEASURED, SDPA, ())


def test_deeper_rungs_count_before_shallower_ones(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(SDPA, on_layers(3), ARM, (0.5,)),
        failure(SDPA, on_layers(6), ARM, kind=FailureKind.OUT_OF_MEMORY),
        failure(EAGER, on_layers(3), ARM),
        *rounds(EAGER, on_layers(6), ARM, (0.5,)),
        host=ARM,
    )
    assert (found.candidate.label, [f.candidate.label for f in found.failed]) == (EAGER, [SDPA])


def test_layers_of_other_versions_answer_nothing(cache: Cache) -> None:
    stale = with_versions(torch="2.12.0")
    found = answer(cache, *rounds(SDPA, on_layers(6, KEY), HOST, (0.5,), environment=stale))
    assert (found.source, found.layers) == (Source.PREDICTED, ())


def test_one_candidate_alone_has_nothing_to_lose_to(cache: Cache) -> None:
    found = answer(cache, *rounds(SDPA, on_layers(6), ARM, (0.2,)), host=ARM)
    assert not any("more than the best of them" in line for line in why(found))


def test_a_calibration_says_that_its_answer_stands_on_layers(cache: Cache) -> None:
    found = answer(cache, *rounds(SDPA, on_layers(6), ARM, (0.2,)), host=ARM)
    assert verdict(found).startswith(f"{SDPA}, measured on a few layers, is predicted to answer pp512:tg128:b1 in ")
