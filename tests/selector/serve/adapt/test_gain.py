"""What another choice gains: nothing where it is within the band or within the noise, and something only where sure."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from selector.serve.adapt.gain import Better, NoGain, Unsure, gain_of
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, with_versions
from tests.selector.launches import rounds, served
from tests.selector.serve.adapt.making import LOAD, under_load, weighed

CALIBRATE = f"autobackend calibrate {MODEL} --workload {LOAD}"


def test_the_choice_gains_nothing_over_itself(cache: Cache) -> None:
    found = weighed(cache, [*under_load(SDPA, 240.0), *under_load(CT2, 80.0)])
    assert gain_of(found, SDPA) == NoGain(best=SDPA)


def test_within_the_band_nothing_is_gained(cache: Cache) -> None:
    found = weighed(cache, [*under_load(SDPA, 100.0), *under_load(EAGER, 102.0)])
    best = found.selection.candidate.label
    assert gain_of(found, EAGER if best == SDPA else SDPA) == NoGain(best=best)


def test_within_the_noise_nothing_is_gained(cache: Cache) -> None:
    """One launch each: 20 % may be the machine's."""
    found = weighed(cache, [under_load(SDPA, 120.0)[0], under_load(CT2, 100.0)[0]])
    assert gain_of(found, CT2) == NoGain(best=SDPA)


def test_beyond_both_it_is_better(cache: Cache) -> None:
    gain = gain_of(weighed(cache, [*under_load(SDPA, 240.0), *under_load(CT2, 80.0)]), CT2)
    assert isinstance(gain, Better)
    assert gain.best == SDPA
    assert gain.times == pytest.approx(3.0, rel=1e-3)
    assert 0 < gain.half < 1


def test_it_holds_among_named_backends_too(cache: Cache) -> None:
    outcomes = [*under_load(SDPA, 240.0), *under_load(CT2, 80.0)]
    found = weighed(cache, outcomes, backends=[SDPA, CT2])
    assert found.selection.source == "forced"
    assert isinstance(gain_of(found, CT2), Better)


def test_one_stream_is_a_batch_of_one(cache: Cache) -> None:
    batches = [*rounds(CT2, KEY, HOST, (0.2, 0.2, 0.2)), *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0))]
    gain = gain_of(weighed(cache, batches, workload="pp64:tg32:c1"), SDPA)
    assert isinstance(gain, Better)
    assert gain.best == CT2
    assert gain.times == pytest.approx(5.0, rel=1e-2)
    assert gain_of(weighed(cache, [], workload=LOAD), SDPA) == Unsure(
        best=CT2, why=f"{LOAD} was not measured as served", command=CALIBRATE
    )


def test_a_batch_outside_of_what_was_measured_is_not_sure(cache: Cache) -> None:
    batches = [*rounds(CT2, KEY, HOST, (0.2, 0.2, 0.2)), *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0))]
    gain = gain_of(weighed(cache, batches, workload="pp4000:tg32:c1"), SDPA)
    assert isinstance(gain, Unsure)
    assert gain.why == "pp4000:tg32:b1 lies outside of what was measured"


def test_what_was_never_measured_here_is_not_sure(cache: Cache) -> None:
    found = weighed(cache, [], workload="pp64:tg32:c1")
    running = next(label for label in (SDPA, EAGER) if label != found.selection.candidate.label)
    gain = gain_of(found, running)
    assert isinstance(gain, Unsure)
    assert gain.why == f"{found.selection.candidate.label} is the choice by a prediction"


def test_other_versions_are_not_sure(cache: Cache) -> None:
    old = with_versions(transformers="5.0.0")
    found = weighed(cache, [*under_load(SDPA, 80.0, environment=old), *under_load(CT2, 240.0)])
    assert gain_of(found, SDPA) == Unsure(
        best=CT2, why=f"{SDPA} was not measured for {LOAD} with today's versions", command=CALIBRATE
    )


def test_a_stale_choice_is_not_sure_where_it_is_forced_either(cache: Cache) -> None:
    old = with_versions(transformers="5.0.0")
    stale = [*under_load(SDPA, 240.0, environment=old), *under_load(EAGER, 80.0, environment=old)]
    gain = gain_of(weighed(cache, stale, backends=[SDPA, EAGER]), EAGER)
    assert isinstance(gain, Unsure)
    assert gain.why == f"{SDPA} was not measured for {LOAD} with today's versions"


def test_other_numbers_of_streams_are_not_sure(cache: Cache) -> None:
    levels = {"pp64:tg32:c4": 100.0, "pp64:tg32:c16": 200.0}
    outcomes = [served(SDPA, KEY, HOST, {key: 3 * value for key, value in levels.items()})]
    gain = gain_of(weighed(cache, [*outcomes, served(CT2, KEY, HOST, levels)]), CT2)
    assert isinstance(gain, Unsure)
    assert gain.why == f"{LOAD} was not measured with {SDPA}: its figures are interpolated"


def test_disturbed_launches_are_not_sure(cache: Cache) -> None:
    gain = gain_of(weighed(cache, [*under_load(SDPA, 240.0, void="busy"), *under_load(CT2, 80.0)]), CT2)
    assert isinstance(gain, Unsure)
    assert gain.why == f"other programs disturbed every launch of {SDPA}"


def test_an_output_that_nobody_checked_is_not_sure(cache: Cache) -> None:
    twin = replace(KEY, config="f" * 16)
    unchecked = [served(SDPA, twin, HOST, {LOAD: 240.0}, round_=number) for number in (1, 2, 3)]
    gain = gain_of(weighed(cache, [*unchecked, *under_load(CT2, 80.0)]), CT2)
    assert isinstance(gain, Unsure)
    assert gain.why == f"the output of {SDPA} is unchecked for {MODEL}"


def test_who_meets_targets_is_better_than_who_misses_them(cache: Cache) -> None:
    outcomes = [*under_load(CT2, 240.0, ttft_s=0.9), *under_load(SDPA, 160.0, ttft_s=0.1)]
    gain = gain_of(weighed(cache, outcomes, objective="throughput", ttft_s=0.5), CT2)
    assert isinstance(gain, Better)
    assert gain.best == SDPA
    assert gain.times == pytest.approx(160 / 240, rel=1e-3)


def test_targets_that_nobody_meets_are_no_gain_for_sure(cache: Cache) -> None:
    outcomes = [*under_load(SDPA, 240.0, ttft_s=0.3), *under_load(CT2, 80.0, ttft_s=0.9)]
    gain = gain_of(weighed(cache, outcomes, objective="throughput", ttft_s=0.05), CT2)
    assert isinstance(gain, Unsure)
    assert gain.why == "no candidate is likely to meet TTFT <= 0.05 s"


def levels(times: float, bend: float = 1.0) -> dict[str, float]:
    """Tokens a second whose time grows with the streams as 10 ms + 2 ms each; the middle level is off that line."""
    off = {4: 1.0, 16: bend, 32: 1.0}
    return {f"pp64:tg32:c{n}": times * off[n] * n / (0.010 + 0.002 * n) for n in off}


def test_between_levels_that_keep_to_the_form_a_gain_is_sure(cache: Cache) -> None:
    both = ((SDPA, 3.0), (CT2, 1.0))
    outcomes = [
        served(label, KEY, HOST, levels(times), round_=number, ttft_s=0.001)
        for label, times in both
        for number in (1, 2)
    ]
    gain = gain_of(weighed(cache, outcomes), CT2)
    assert isinstance(gain, Better)
    assert gain.best == SDPA
    assert gain.times == pytest.approx(3.0, rel=1e-2)


def test_between_levels_that_do_not_a_gain_may_be_none(cache: Cache) -> None:
    both = ((SDPA, 2.0), (CT2, 1.0))
    outcomes = [
        served(label, KEY, HOST, levels(times, 2.0), round_=number, ttft_s=0.001)
        for label, times in both
        for number in (1, 2, 3)
    ]
    gain = gain_of(weighed(cache, outcomes), CT2)
    assert isinstance(gain, Unsure)
    assert gain.why == f"the figures for {LOAD} are interpolated, and may be off by as much as is gained"


def test_a_measured_load_of_about_these_lengths_stands_for_what_came(cache: Cache) -> None:
    outcomes = [
        served(label, KEY, HOST, {"pp66:tg30-32:c8": tps}, round_=number)
        for label, tps in ((SDPA, 240.0), (CT2, 80.0))
        for number in (1, 2, 3)
    ]
    found = weighed(cache, outcomes)
    assert found.selection.use.label == "pp66:tg30-32:c8"
    assert isinstance(gain_of(found, CT2), Better)


def test_one_that_was_measured_and_one_that_was_interpolated_are_not_compared(cache: Cache) -> None:
    """The choice is the one that was measured, however slow it is."""
    interpolated = served(SDPA, KEY, HOST, levels(3.0), ttft_s=0.001)
    gain = gain_of(weighed(cache, [interpolated, *under_load(CT2, 10.0)]), SDPA)
    assert isinstance(gain, Unsure)
    assert (gain.best, gain.why) == (CT2, f"{CT2} and {SDPA} were not measured in the same way")
