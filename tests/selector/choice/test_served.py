"""select() for a load: the launches under it answer, else loads around it, else the nearest static batch."""

import json
from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.errors import NotCalibrated
from calibration.measurement import FailureKind
from selector.answer import Selection
from selector.screens.select import why
from selector.selection import choose
from tests.selector.answering import CT2, HOST, KEY, MODEL, SDPA, answer, with_versions
from tests.selector.launches import LOSSY, VERSIONS, check, failure, other_size, rounds, served, unserved

LOAD = "pp64:tg32:c8"
CALIBRATE = f"autobackend calibrate {MODEL} --workload {LOAD}"


def labels(selection: Selection) -> list[str]:
    return [one.candidate.label for one in selection.served]


def test_the_best_under_the_load_answers_whatever_is_best_for_a_batch(cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    chosen = answer(cache, served(CT2, KEY, HOST, {LOAD: 80.0}), served(SDPA, KEY, HOST, {LOAD: 240.0}), workload=LOAD)
    assert (chosen.candidate.label, chosen.source, chosen.ranking) == (SDPA, "measured", ())
    assert labels(chosen) == [SDPA, CT2]
    assert chosen.warnings == ()
    assert (chosen.use.label, chosen.slots, chosen.threads) == (LOAD, 8, 2)
    assert choose(MODEL, cache=cache, host=HOST).candidate.label == CT2, "the batch has its own answer"


@pytest.mark.parametrize(("slow", "pick"), [(1.3, "openvino:fp16-pa"), (20.0, "openvino:fp16-sdpa")])
def test_an_engine_that_serves_one_after_another_answers_an_unmeasured_load_where_that_is_still_faster(
    cache: Cache, slow: float, pick: str
) -> None:
    versions = {**VERSIONS, "openvino": "2026.4.1", "openvino-genai": "2026.4.1", "nncf": "3.0.0", "numpy": "2.4.6"}
    installed = replace(HOST.installations["openvino"], versions=versions)
    host = replace(HOST, installations={**HOST.installations, "openvino": installed})
    cache.add(
        *rounds("openvino:fp16-sdpa", KEY, host, (1.0,)),
        *rounds("openvino:fp16-pa", KEY, host, (slow,)),
    )
    assert choose(MODEL, cache=cache, host=host, workload="pp64:tg32:b8").candidate.label == "openvino:fp16-sdpa"
    assert choose(MODEL, cache=cache, host=host, workload=LOAD).candidate.label == pick


def test_levels_around_tell_a_load_between_and_the_answer_says_so(cache: Cache) -> None:
    levels = {"pp64:tg32:c1": 40.0, "pp64:tg32:c8": 160.0, "pp64:tg32:c16": 200.0}
    chosen = answer(cache, served(SDPA, KEY, HOST, levels, ttft_s=0.02), workload="pp64:tg32:c4")
    [one] = chosen.served
    assert (one.way, chosen.extrapolated, one.slots) == ("interpolated", False, 4)
    # Seconds that a stream takes for a token: 1/40 at one, 8/160 at eight; at four 3/7 of the way.
    assert one.figures.output_tps == pytest.approx(4 / (1 / 40 + 3 / 7 * (8 / 160 - 1 / 40)), rel=1e-2)
    assert one.error is not None and one.error == pytest.approx(0.0, abs=0.2)
    [note] = chosen.notes
    assert note.startswith("pp64:tg32:c4 is interpolated from other numbers of streams, which is off by ")
    beyond = choose(MODEL, cache=cache, host=HOST, workload="pp64:tg32:c64")
    assert (beyond.served[0].way, beyond.extrapolated) == ("extrapolated", True)
    other = choose(MODEL, cache=cache, host=HOST, workload="pp500:tg32:c4")
    assert other.served == (), "other lengths are another load"


def test_void_levels_tell_where_there_are_no_others(cache: Cache) -> None:
    levels = {"pp64:tg32:c1": 40.0, "pp64:tg32:c8": 160.0}
    busy = answer(cache, served(SDPA, KEY, HOST, levels, ttft_s=0.02, void="busy"), workload="pp64:tg32:c4")
    assert (busy.served[0].way, busy.served[0].void) == ("interpolated", True)
    quiet = {"pp64:tg32:c1": 80.0, "pp64:tg32:c8": 320.0}
    clean = answer(cache, served(SDPA, KEY, HOST, quiet, ttft_s=0.02, round_=2), workload="pp64:tg32:c4")
    assert not clean.served[0].void
    assert clean.served[0].figures.output_tps == pytest.approx(2 * busy.served[0].figures.output_tps, rel=0.05)


def test_what_was_measured_comes_before_what_is_told_by_levels(cache: Cache) -> None:
    chosen = answer(
        cache,
        served(CT2, KEY, HOST, {"pp64:tg32:c1": 900.0, "pp64:tg32:c16": 9000.0}, ttft_s=1e-4),
        served(SDPA, KEY, HOST, {LOAD: 100.0}),
        workload=LOAD,
    )
    assert labels(chosen) == [SDPA, CT2]


def test_without_launches_under_load_the_static_batch_answers_and_says_so(cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    chosen = choose(MODEL, cache=cache, host=HOST, workload=LOAD)
    assert (chosen.candidate.label, chosen.source, chosen.served) == (CT2, "measured", ())
    assert chosen.warnings[0] == (
        f"{LOAD} was not measured as served here; this is the answer for the static batch pp64:tg32:b8."
        f" Measure it: {CALIBRATE}"
    )
    with pytest.raises(NotCalibrated) as error:
        choose(MODEL, cache=cache, host=HOST, workload=LOAD, strict=True)
    assert error.value.message == f"{MODEL} was never measured on this host under {LOAD}"
    assert error.value.mend == f"measure it: {CALIBRATE}"


def test_a_goodput_that_was_not_measured_is_answered_by_the_batch(cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    chosen = choose(MODEL, cache=cache, host=HOST, workload=LOAD, objective="goodput", ttft_s=2.0)
    assert chosen.candidate.label == CT2


def test_launches_with_other_versions_answer_as_stale(cache: Cache) -> None:
    old = with_versions(transformers="5.0.0")
    chosen = answer(cache, served(SDPA, KEY, HOST, {LOAD: 100.0}, environment=old), workload=LOAD)
    assert (chosen.source, chosen.candidate.label) == ("stale", SDPA)
    assert chosen.warnings == (
        f"{SDPA} was served with other versions (transformers 5.0.0 -> 5.23.0). Measure again: {CALIBRATE}",
    )


def test_a_server_that_failed_answers_no_load_and_still_a_batch(cache: Cache) -> None:
    cache.add(
        *rounds(CT2, KEY, HOST, (0.2,)),
        served(SDPA, KEY, HOST, {LOAD: 100.0}),
        served(CT2, KEY, HOST, {LOAD: 900.0}),
        unserved(CT2, KEY, HOST, message="the server ended", round_=5),
    )
    chosen = choose(MODEL, cache=cache, host=HOST, workload=LOAD)
    assert labels(chosen) == [SDPA]
    assert [(f.candidate.label, f.stage) for f in chosen.failed] == [(CT2, "pp64:tg32:c8")]
    static = choose(MODEL, cache=cache, host=HOST)
    assert (static.candidate.label, static.failed) == (CT2, ())


def test_wrong_output_is_never_served(cache: Cache) -> None:
    chosen = answer(
        cache,
        served(SDPA, KEY, HOST, {LOAD: 100.0}),
        served(CT2, KEY, HOST, {LOAD: 900.0}),
        failure(CT2, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check", message="differs", round_=9),
        workload=LOAD,
    )
    assert labels(chosen) == [SDPA]


def test_another_model_of_the_shape_lends_its_figures_and_not_its_verdict(cache: Cache) -> None:
    twin = replace(KEY, config="f" * 16)
    chosen = answer(cache, served(SDPA, twin, HOST, {LOAD: 100.0}), workload=LOAD)
    assert labels(chosen) == [SDPA]
    assert chosen.served[0].agreement.verdict == "unchecked"
    assert "is unchecked for" in chosen.warnings[0]
    elsewhere = answer(cache, served(CT2, other_size(KEY), HOST, {LOAD: 900.0}), workload=LOAD)
    assert labels(elsewhere) == [SDPA]


def test_a_void_launch_counts_where_there_is_no_other(cache: Cache) -> None:
    void = "other programs used 20% of the cores; 5% are allowed"
    chosen = answer(cache, served(SDPA, KEY, HOST, {LOAD: 900.0}, void=void), workload=LOAD)
    assert chosen.served[0].void
    clean = answer(cache, served(SDPA, KEY, HOST, {LOAD: 100.0}, round_=2), workload=LOAD)
    assert (clean.served[0].void, len(clean.served[0].launches)) == (False, 1)


def test_lossy_candidates_answer_where_they_are_allowed(cache: Cache) -> None:
    int8 = "ctranslate2:int8"
    cache.add(
        served(SDPA, KEY, HOST, {LOAD: 100.0}),
        served(int8, KEY, HOST, {LOAD: 300.0}, agreement=LOSSY),
        check(int8, KEY, HOST, agreement=LOSSY),
    )
    assert choose(MODEL, cache=cache, host=HOST, workload=LOAD).candidate.label == SDPA
    allowed = choose(MODEL, cache=cache, host=HOST, workload=LOAD, allow_lossy=True)
    assert allowed.candidate.label == int8


def test_json_tells_the_table(cache: Cache) -> None:
    chosen = answer(cache, served(SDPA, KEY, HOST, {LOAD: 100.0}), workload=LOAD)
    told = json.loads(json.dumps(chosen.to_json()))
    assert told["workload"] == LOAD
    [row] = told["served"]
    assert (row["candidate"], row["n"], row["way"], row["threads"], row["slots"]) == (SDPA, 1, "measured", 2, 8)
    assert row["output_tps"] == pytest.approx(100.0, rel=1e-3)


def test_why_shows_the_table(cache: Cache) -> None:
    chosen = answer(
        cache,
        *(served(SDPA, KEY, HOST, {LOAD: 160.0}, round_=n) for n in (1, 2)),
        served(CT2, KEY, HOST, {LOAD: 80.0}),
        workload=LOAD,
        objective="throughput",
    )
    lines = why(chosen, now=chosen.measured_at)
    assert lines[0] == (
        f"{SDPA}, measured here as served just now (3 launches, 2 candidates), for {LOAD}, objective throughput"
    )
    assert [line.split() for line in lines[1:4]] == [
        "candidate tok/s TTFT p50 p95 TPOT p50 p95 E2E p50 memory launches threads P(best)".split(),
        "transformers:sdpa 160 ± 25 100 ms 100 ms 48.4 ms 48.4 ms 1.60 s 1.0 GiB 2 2 > 99 %".split(),
        "ctranslate2:float32 80.0 ± 17.6 100 ms 100 ms 100 ms 100 ms 3.20 s 1.0 GiB 1 2 < 1 %".split(),
    ]


def test_an_answer_beyond_the_levels_says_so(cache: Cache) -> None:
    levels = {"pp64:tg32:c1": 40.0, "pp64:tg32:c8": 160.0}
    beyond = answer(cache, served(SDPA, KEY, HOST, levels, ttft_s=0.02), workload="pp64:tg32:c64")
    assert why(beyond, now=beyond.measured_at)[1] == "  beyond the measured numbers of streams: extrapolated"
