"""The map as text: exact screens."""

import pytest

from calibration.cache.cache import Cache
from calibration.workload import Workload
from selector.map.axes import Axes
from selector.map.marks import story
from selector.map.text import text
from selector.map.winners import winners
from tests.selector.answering import CT2, HOST, KEY, MODEL, SDPA
from tests.selector.launches import DAY, rounds
from tests.selector.map.mapped import two_regions


@pytest.fixture
def measured(cache: Cache) -> Cache:
    cache.add(*two_regions())
    return cache


def test_the_grids_stand_side_by_side_above_their_legend(measured: Cache) -> None:
    drawn = winners(MODEL, Axes.parse("64:4096", "8,64,512", "1,4"), cache=measured, host=HOST)
    assert text(drawn, now=DAY + 86_400) == [
        "shape:smollm2-135m on AMD EPYC 7763 (zen3), 2 cores, measured here 23 hours ago",
        "best latency (seconds end to end)",
        "prompt tokens (pp) to the right, new tokens (tg) upwards",
        "",
        "batch 1                                         batch 4",
        "    512  A   A    A    A    A     A?    A?          512  A   A    A    A    A     A?    B/A?",
        "     64  A   A    A    A    A     B?    B?           64  A   A    A    B/A  B     B?    B?",
        "      8  A   A/B  B    B    B     B?    B?            8  B   B    B    B    B     B?    B?",
        "tg / pp  64  128  256  512  1024  2048  4096    tg / pp  64  128  256  512  1024  2048  4096",
        "",
        "A  transformers:sdpa    23 of 42  always: 1.19 times the best, at worst 1.96",
        "B  ctranslate2:float32  19 of 42  always: 1.28 times the best, at worst 1.98",
        "",
        "A/B  A, and B is as good as far as the launches can tell",
        "A?   extrapolated: outside of the measured cells",
        "",
        "transformers:sdpa is the best at 23 of 42 workloads; always taking it costs 1.19 times the best",
        "(geometric mean), at worst 1.96.",
    ]


def test_in_a_narrow_terminal_they_stand_below_each_other(measured: Cache) -> None:
    drawn = winners(MODEL, Axes.parse("64:4096", "8,64,512", "1,4"), cache=measured, host=HOST)
    lines = text(drawn, now=DAY + 86_400, across=60)
    assert [line for line in lines if line.startswith("batch")] == ["batch 1", "batch 4"]
    assert max(map(len, lines[2:])) <= 60


def test_what_misses_the_targets_and_what_nothing_runs(measured: Cache) -> None:
    drawn = winners(MODEL, Axes.parse("64,8192", "8", "1"), cache=measured, host=HOST, ttft_s=0.05)
    assert text(drawn, now=DAY + 86_400)[1:] == [
        "best latency (seconds end to end), among those that meet TTFT <= 0.05 s",
        "prompt tokens (pp) to the right, new tokens (tg) upwards",
        "",
        "batch 1",
        "      8  A!  -",
        "tg / pp  64  8192",
        "",
        "A  ctranslate2:float32  1 of 2",
        "",
        "A!  the nearest; no candidate meets TTFT <= 0.05 s",
        "-   nothing runs it here (needs at most 8192 tokens a sequence, the model's positions; found 8200",
        "    (pp8192:tg8:b1))",
        "",
        "ctranslate2:float32 is the best at every workload that runs here; at 1 of them the targets are",
        "missed.",
    ]


def test_a_cell_in_words(measured: Cache) -> None:
    drawn = winners(MODEL, Axes.parse("512,8192", "64", "4"), cache=measured, host=HOST, objective="throughput")
    assert [story(drawn, cell) for cell in drawn.cells.values()] == [
        "pp512:tg64:b4: ctranslate2:float32, 5.58 s, as fast as transformers:sdpa",
        (
            "pp8192:tg64:b4: nothing runs it here (needs at most 8192 tokens a sequence, the model's positions; found"
            " 8256 (pp8192:tg64:b4))"
        ),
    ]
    far = winners(MODEL, Axes.parse("64", "8", "64"), cache=measured, host=HOST, tpot_s=0.01, price_per_hour=1.8)
    assert [story(far, cell) for cell in far.cells.values()] == [
        "pp64:tg8:b64: transformers:sdpa, 9.24 s, 9.02 per M new tokens, misses the targets (extrapolated)"
    ]


def test_the_winner_of_most_is_not_always_who_costs_least_everywhere(cache: Cache) -> None:
    """SDPA is the fastest by a little at three of four prompt lengths, and CT2 by much at the other."""
    cells = [Workload(prompt_tokens=p, output_tokens=32) for p in (64, 1024)]
    cache.add(
        *rounds(CT2, KEY, HOST, (1.0, 1.0, 1.0), cells=cells),
        *rounds(SDPA, KEY, HOST, (2.0, 2.0, 2.0), decode=0.7, cells=cells),
    )
    drawn = winners(MODEL, Axes.parse("64,66,68,1024", "32", "1"), cache=cache, host=HOST)
    assert text(drawn)[-2:] == [
        "transformers:sdpa is the best at 3 of 4 workloads; always taking ctranslate2:float32 costs 1.06",
        "times the best (geometric mean), at worst 1.09.",
    ]
