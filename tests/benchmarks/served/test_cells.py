"""The study of served loads: what chooses does not judge, and what a level between two is told by."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.served.cells import Cell, always, beyond_noise, differences, names_of, over, over_best
from benchmarks.served.form import exactness, sampling_error, told_levels
from benchmarks.served.recorded import BATCH, UNMEASURED, Recorded, of_cache
from calibration.cache.cache import Cache
from calibration.load.load import Load
from calibration.load.sample import Asked
from selector.selection import choose
from tests.benchmarks.served.planted import ALLOWED, C1, C4, C8, EQUAL, INT8, LENGTHS, close, plant
from tests.calibration.points import point
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA
from tests.selector.launches import served


def test_a_cell_is_a_load_in_two_halves(recorded: Recorded, cells: dict[tuple[str, int], Cell]) -> None:
    assert (recorded.name, recorded.loads) == ("smollm2-135m", (C1, C4, C8))
    assert set(cells) == {(name, streams) for name in (EQUAL, ALLOWED) for streams in (1, 4, 8)}
    cell = cells[EQUAL, 4]
    assert {label: set(times) for label, times in cell.times.items()} == {CT2: {1, 2}, SDPA: {1, 2}, EAGER: {1}}
    assert [1 / cell.times[CT2][1], 1 / cell.times[CT2][2], 1 / cell.times[EAGER][1]] == close(90.0, 110.0, 20.0)
    assert set(cells[ALLOWED, 4].times) == {CT2, SDPA, EAGER, INT8}


def test_the_pick_of_a_half_is_what_select_answers_by_it_alone(
    cells: dict[tuple[str, int], Cell], tmp_path: Path
) -> None:
    for half in (1, 2):
        with Cache.open(tmp_path / f"{half}.db") as alone:
            plant(alone, only=half)
            for (name, streams), cell in cells.items():
                answer = choose(
                    MODEL,
                    workload=Load.parse(f"{LENGTHS}:c{streams}"),
                    objective="throughput",
                    allow_lossy=name == ALLOWED,
                    cache=alone,
                    host=HOST,
                )
                assert answer.candidate.label == cell.picks[half]
    assert cells[EQUAL, 4].picks == {1: SDPA, 2: CT2}
    assert cells[ALLOWED, 8].picks == {1: SDPA, 2: SDPA}


def test_a_pick_is_judged_by_the_other_half(cells: dict[tuple[str, int], Cell]) -> None:
    """At four streams noise makes SDPA the best of the first round and CT2 that of the second."""
    cell = cells[EQUAL, 4]
    # The first half judges CT2, which took 1/90 where SDPA took 1/100; the second one SDPA, 1/100 where CT2 took 1/110.
    assert over_best(cell) == close(100 / 90, 110 / 100)
    assert over(cell, cell.picks, cell.picks) == (1.0, 1.0)
    # CT2 differs from itself by 110 / 90, which is more than either.
    assert beyond_noise(cell) == (1.0, 1.0)
    assert over_best(cells[EQUAL, 8]) == (1.0, 1.0)
    assert differences([cell, cells[ALLOWED, 4]]) == close(110 / 90, 1.0, 1.0)


def test_beyond_noise_is_what_the_candidates_own_difference_does_not_explain() -> None:
    cell = Cell(
        host="h",
        model="m",
        load=C8,
        precision=EQUAL,
        times={"a:x": {1: 1.0, 2: 1.1}, "b:x": {1: 2.2, 2: 2.2}},
        picks={1: "b:x", 2: "a:x"},
    )
    assert beyond_noise(cell) == close(1.0, 2.2 / 1.1 / 1.1)


def test_always_the_same_is_told_over_the_pick(cells: dict[tuple[str, int], Cell]) -> None:
    cell = cells[EQUAL, 8]
    assert over(cell, always(cell, CT2), cell.picks) == close(1.6, 1.6)
    assert always(cell, "transformers") == {1: SDPA, 2: SDPA}
    # Out after its first launch, it is judged by that.
    assert over(cell, always(cell, EAGER), cell.picks) == close(8.0)
    assert over(cell, always(cell, "openvino"), cell.picks) == ()
    # CT2 itself is the pick of the second half at four streams; SDPA that of the first.
    cell = cells[EQUAL, 4]
    assert over(cell, always(cell, CT2), cell.picks) == close(1.0, 100 / 110)
    assert names_of(cells.values()) == ["ctranslate2", CT2, INT8, "transformers", EAGER, SDPA]


def test_what_select_answers_where_nothing_was_served(recorded: Recorded, cells: dict[tuple[str, int], Cell]) -> None:
    cell = cells[EQUAL, 8]
    assert cell.without == {BATCH: CT2, UNMEASURED: CT2}
    assert recorded.without[C1, False][BATCH] == CT2


def test_a_level_between_is_told_by_those_around_it(recorded: Recorded, cells: dict[tuple[str, int], Cell]) -> None:
    told = [one for one in told_levels(recorded) if one.candidate == SDPA]
    # A stream of SDPA waits 20 ms for a token alone and 50 ms among eight: among four 20 + 30 * 3 / 7.
    expected = 4 / (0.020 + 0.030 * 3 / 7)
    assert [one.ratios["output_tps"] for one in told] == close(expected / 100, expected / 100)
    assert {one.load for one in told_levels(recorded)} == {C4}
    # By one and eight streams CT2 reaches 97 tokens a second among four, SDPA 122.
    assert cells[EQUAL, 4].told == {1: SDPA, 2: SDPA}
    assert cells[EQUAL, 8].told == {}


def test_a_level_with_void_points_is_told_by_none(cache: Cache) -> None:
    tps = {C1.label: 50.0, C4.label: 100.0, C8.label: 160.0}
    cache.add(
        served(SDPA, KEY, HOST, tps, ttft_s=0.02, void="busy"), served(CT2, KEY, HOST, {C1.label: 50.0, C8.label: 90.0})
    )
    [one] = of_cache(cache, host=HOST)
    assert told_levels(one) == []
    assert (exactness(one, C1).points, exactness(one, C1).void) == (2, 1)


def test_the_sampling_error_is_that_of_a_ratio_of_sums() -> None:
    def answer(number: int, tokens: int, e2e_s: float) -> Asked:
        return Asked(
            number=number, sent_s=0.0, chunks_s=(0.1, e2e_s), prompt_tokens=8, output_tokens=tokens, counted=True
        )

    taken = point(C1, tps=50.0)
    uneven = replace(taken, asked=(answer(0, 10, 1.0), answer(1, 10, 3.0)))
    # 20 tokens in 4 s: the answers are 5 above and 5 below 5 tokens a second.
    assert sampling_error(uneven) == pytest.approx(1.95996 * (2 * 50) ** 0.5 / 20)
    even = replace(taken, asked=(answer(0, 10, 2.0), answer(1, 20, 4.0)))
    assert sampling_error(even) == 0.0
    assert sampling_error(replace(taken, asked=(answer(0, 10, 1.0),))) is None


def test_the_error_is_as_large_as_what_repeated_samples_show() -> None:
    """Answers of 8 to 24 tokens, each taking a tenth of a second and 20 ms a token, give or take a fifth."""
    draw = random.Random(7)

    def sample() -> tuple[float, float]:
        asked = []
        for number in range(24):
            tokens = draw.randint(8, 24)
            took = (0.1 + 0.02 * tokens) * draw.uniform(0.8, 1.2)
            asked.append(Asked(number=number, sent_s=0.0, chunks_s=(0.1, took), prompt_tokens=8, output_tokens=tokens))
        taken = replace(point(C1, tps=50.0), asked=tuple(asked))
        error = sampling_error(taken)
        assert error is not None
        return sum(a.output_tokens for a in asked) / sum(a.e2e_s for a in asked), error

    samples = [sample() for _ in range(400)]
    mean = sum(rate for rate, _ in samples) / len(samples)
    inside = sum(abs(rate / mean - 1.0) <= error for rate, error in samples) / len(samples)
    assert 0.90 < inside < 0.99
