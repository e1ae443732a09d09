"""Answers where nothing was measured here: predicted from other hosts and models."""

import math
import re
from dataclasses import replace
from statistics import NormalDist

import pytest

from calibration.cache.cache import Cache
from calibration.errors import NotCalibrated
from calibration.measurement import Candidate, FailureKind
from calibration.workload import Workload
from selector import SelectionWarning, select
from selector.answer import Source
from selector.choice.candidates import find_candidates
from selector.choice.pick import pick
from selector.choice.promising import promising
from selector.context import DEFAULT
from selector.demand.demand import Demand
from selector.demand.targets import percent
from selector.predict.prediction import predict
from selector.screens.calibration.results import verdict
from selector.screens.select import why
from selector.screens.text import between, seconds
from tests.selector.answering import (
    CT2,
    EAGER,
    HOST,
    KEY,
    MODEL,
    SDPA,
    SPEC,
    all_labels,
    answer,
)
from tests.selector.launches import failure, rounds

CHAT = Workload.parse("chat")
CALIBRATE = f"autobackend calibrate {MODEL}"


def test_with_nothing_measured_the_answer_is_predicted_with_its_time_and_how_sure_it_is(cache: Cache) -> None:
    with pytest.warns(SelectionWarning) as told:
        found = select(MODEL, cache=cache, host=HOST)
    expected = predict(SPEC, HOST, all_labels(), CHAT, cache=cache)
    assert expected is not None
    assert (found.source, found.candidate.label, found.ranking) == (Source.PREDICTED, expected.pick.candidate, ())
    assert (found.prediction, found.expected) == (expected, expected.pick)
    assert {row.candidate for row in expected.predicted} == set(all_labels())
    (warning,) = told
    pick = expected.pick
    assert str(warning.message) == (
        f"{MODEL} was never measured on this host; by launches of 8 models on 6 hosts, {pick.candidate} is predicted to"
        f" take {pick.e2e_s:.3g} s ({pick.ci90[0]:.3g} to {pick.ci90[1]:.3g} s), and is the best with a probability of"
        f" {percent(pick.p_best)}. Make sure: {CALIBRATE}"
    )


def test_the_json_has_what_was_predicted_and_by_what(cache: Cache) -> None:
    found = answer(cache)
    assert found.prediction is not None
    told = found.to_json()
    assert (told["source"], told["layers"]) == ("predicted", [])
    assert told["prediction"] == {
        "candidates": [row.to_json() for row in found.prediction.predicted],
        "expected_regret": found.prediction.expected_regret,
        "hosts": list(found.prediction.hosts),
        "models": list(found.prediction.models),
    }
    assert set(told["prediction"]["candidates"][0]) == {
        "candidate",
        "ttft_s",
        "tpot_s",
        "e2e_s",
        "ci90",
        "p_best",
        "chance",
    }


def test_a_prediction_is_no_measurement_for_strict(cache: Cache) -> None:
    with pytest.raises(NotCalibrated, match="was never measured on this host"):
        answer(cache, strict=True)


def test_what_failed_here_is_never_predicted_to_be_the_answer(cache: Cache) -> None:
    first = answer(cache).candidate.label
    found = answer(cache, failure(first, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check", message="diverges"))
    assert found.prediction is not None
    assert found.source is Source.PREDICTED
    assert found.candidate.label != first
    assert first not in {row.candidate for row in found.prediction.predicted}


def test_forced_has_its_predicted_time_beside_those_of_the_others(cache: Cache) -> None:
    found = answer(cache, backend=CT2, strict=True)
    assert (found.source, found.candidate.label, found.warnings) == (Source.FORCED, CT2, ())
    row = found.expected
    assert row is not None
    assert found.prediction is not None
    assert {SDPA, EAGER} < {other.candidate for other in found.prediction.predicted}
    low, high = row.ci90
    assert found.notes == (
        f"{CT2} was never measured on this host; it is predicted to take {row.e2e_s:.3g} s ({low:.3g} to {high:.3g} s)",
    )


def test_forced_to_a_backend_the_best_of_its_variants_is_predicted(cache: Cache) -> None:
    found = answer(cache, backend="transformers")
    own = [label for label in all_labels() if label.startswith("transformers:")]
    alone = predict(SPEC, HOST, own, CHAT, cache=cache)
    assert alone is not None
    assert (found.source, found.candidate.label) == (Source.FORCED, alone.pick.candidate)


def test_the_first_token_has_an_order_of_its_own(cache: Cache) -> None:
    found = answer(cache, objective="ttft")
    first = predict(SPEC, HOST, all_labels(), replace(CHAT, output_tokens=1), cache=cache)
    whole = predict(SPEC, HOST, all_labels(), CHAT, cache=cache)
    assert first is not None
    assert whole is not None
    assert found.prediction is not None
    assert found.candidate.label == first.pick.candidate
    assert [row.candidate for row in found.prediction.predicted] == [row.candidate for row in first.predicted]
    told, of_whole = found.prediction.pick, next(r for r in whole.predicted if r.candidate == first.pick.candidate)
    assert told == replace(of_whole, p_best=first.pick.p_best, ci90=first.pick.ci90)
    assert "is predicted to give the first token after" in found.warnings[0]


def test_nothing_predicts_memory(cache: Cache) -> None:
    found = answer(cache, objective="memory")
    assert (found.source, found.candidate.label) == (Source.RULES, all_labels()[0])
    assert found.warnings == (
        (
            f"{MODEL} was never measured on this host; nothing tells what it will take of memory, so this is the static"
            f" order. Measure it: {CALIBRATE} --objective memory"
        ),
    )


def test_of_candidates_with_targets_the_best_that_is_predicted_to_meet_them(cache: Cache) -> None:
    prediction = answer(cache).prediction
    assert prediction is not None
    quickest = min(prediction.predicted, key=lambda row: row.ttft_s)
    target_s = quickest.ttft_s * 1.001
    found = answer(cache, ttft_s=target_s)
    assert found.candidate.label == quickest.candidate
    assert f"{quickest.candidate} is predicted to meet TTFT <= {target_s:g} s" in found.warnings[-1]
    missed = answer(cache, ttft_s=quickest.ttft_s / 1.2)
    assert missed.prediction is not None
    likeliest = max(missed.prediction.predicted, key=lambda row: row.chance or 0.0)
    assert missed.candidate.label == likeliest.candidate
    assert "is predicted to miss TTFT" in missed.warnings[-1]


def test_the_chance_of_a_prediction_is_that_of_the_less_likely_target(cache: Cache) -> None:
    """TTFT is as uncertain as the one token of a workload without others, TPOT as the whole answer."""
    found = answer(cache, ttft_s=1.0, tpot_s=0.05)
    whole, first = (predict(SPEC, HOST, all_labels(), w, cache=cache) for w in (CHAT, replace(CHAT, output_tokens=1)))
    assert found.prediction is not None
    assert whole is not None
    assert first is not None

    def kept(time: float, target: float, ci90: tuple[float, float]) -> float:
        middle, spread = math.log(time), math.log(ci90[1] / ci90[0]) / 2 / 1.645
        return NormalDist(middle, spread).cdf(math.log(target))

    spreads = {row.candidate: row.ci90 for row in first.predicted}
    for row, plain in zip(found.prediction.predicted, whole.predicted, strict=True):
        by_ttft = kept(row.ttft_s, 1.0, spreads[row.candidate])
        assert row.chance == pytest.approx(min(by_ttft, kept(row.tpot_s, 0.05, row.ci90)))
        assert replace(row, chance=None) == plain
    lines = why(found)
    head = next(line for line in lines if "P(best)" in line)
    assert head.split() == "candidate expected 90 % of launches P(best) TTFT TPOT meets".split()
    assert percent(found.prediction.pick.chance or 0.0) in lines[lines.index(head) + 1]
    only_ttft = answer(cache, ttft_s=1.0).prediction
    assert only_ttft is not None
    assert only_ttft.pick.chance == pytest.approx(kept(only_ttft.pick.ttft_s, 1.0, spreads[only_ttft.pick.candidate]))


def test_the_same_shape_on_another_host_with_the_same_device_comes_before_a_prediction(cache: Cache) -> None:
    there = replace(KEY, host="b" * 12)
    found = answer(cache, *rounds(EAGER, there, HOST, (1.0,)))
    assert (found.source, found.candidate.label, found.prediction) == (Source.TRANSFERRED, EAGER, None)


def test_a_prediction_comes_before_another_size(cache: Cache) -> None:
    """It weighs that size with all else; where it knows nothing, the other size answers: see test_evidence."""
    other = replace(KEY, fingerprint="0" * 12)
    assert answer(cache, *rounds(EAGER, other, HOST, (1.0,))).source is Source.PREDICTED


def test_a_candidate_that_was_not_measured_and_is_predicted_to_be_faster_is_named(cache: Cache) -> None:
    """On this host the shape is well known; what was measured here took thousands of times as long."""
    found = answer(cache, *rounds(SDPA, KEY, HOST, (4000.0, 4000.0)))
    assert (found.source, found.candidate.label, found.notes) == (Source.MEASURED, SDPA, ())
    sentence = found.promising()
    assert sentence is not None
    assert sentence.endswith(f"). Measure it: {CALIBRATE}")
    times = re.search(r" was not measured; it is predicted to be (\d+) times faster", sentence)
    assert times is not None and int(times[1]) > 99
    assert sentence.split()[0] in {label for label in all_labels() if label != SDPA}


def test_where_the_fastest_was_measured_no_other_is_named(cache: Cache) -> None:
    assert answer(cache, *rounds(SDPA, KEY, HOST, (0.01, 0.01))).promising() is None
    assert answer(cache, *rounds(CT2, KEY, HOST, (0.5,)), objective="memory").promising() is None


def test_a_backend_of_which_nobody_knows_a_time_is_not_named(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    question = DEFAULT.question(MODEL, Demand(), cache=cache, host=HOST)
    known = DEFAULT.known(question)
    found = find_candidates(question, known)
    strange = Candidate(backend="acme", variant="fast")
    candidates = replace(found, allowed={SDPA: found.allowed[SDPA], strange.label: strange})
    picked = pick(question, candidates, known)
    assert (picked.label, picked.source) == (SDPA, Source.MEASURED)
    assert promising(question, known, candidates, picked) is None


def test_the_screen_of_a_prediction(cache: Cache) -> None:
    found = answer(cache)
    assert found.prediction is not None
    lines = why(found)
    rows = found.prediction.predicted
    assert lines[0] == (f"{found.candidate.label}, predicted by launches of 8 models on 6 hosts, for pp512:tg128:b1")
    assert lines[1].split() == ["candidate", "expected", "90", "%", "of", "launches", "P(best)", "TTFT", "TPOT"]
    assert [line.split()[0] for line in lines[2 : 2 + len(rows)]] == [row.candidate for row in rows]
    worse = 100 * (found.prediction.expected_regret - 1)
    assert (
        lines[2 + len(rows)]
        == f"  {found.candidate.label} is expected to take {worse:.1f} % more than the best of them."
    )


def test_a_calibration_says_what_its_answer_is_predicted_to_take(cache: Cache) -> None:
    found = answer(cache)
    assert found.expected is not None
    takes = f"{seconds(found.expected.e2e_s)} ({between(*found.expected.ci90)})"
    assert verdict(found) == (
        f"{found.candidate.label}, not measured, is predicted to answer pp512:tg128:b1 in {takes}."
    )
