"""The benchmark of what serving adds: ratios of the front to the bare engine, with their spread, against the goals."""

from math import inf

import pytest

from benchmarks.measuring.judge.seen import Seen
from benchmarks.serving.overhead import Round, rows_of, table


def seen(tokens_per_s: float, ttft_s: float, tpot_s: float) -> Seen:
    return Seen(tool="ours", requests=4, failed=0, output_tps=tokens_per_s, ttft_p50_s=ttft_s, tpot_p50_s=tpot_s)


def one(load: str, *, front: tuple[Seen, Seen], bare: tuple[Seen, Seen], others: float = 0.0) -> Round:
    return Round(load=load, front=front, bare=bare, others=others)


BARE = (seen(100.0, 0.1, 0.01), seen(100.0, 0.1, 0.01))


def test_a_slow_drift_of_the_machine_cancels_out() -> None:
    """A B B A on a machine that gets slower by a tenth of the first figure from run to run."""
    drifting = one(
        "pp8:tg4:c1",
        front=(seen(100.0, 1.0, 0.010), seen(70.0, 1.3, 0.013)),
        bare=(seen(90.0, 1.1, 0.011), seen(80.0, 1.2, 0.012)),
    )
    assert [drifting.ratio(figure) for figure in ("output_tps", "ttft_p50_s", "tpot_p50_s")] == pytest.approx([1, 1, 1])
    assert drifting.twice("ttft_p50_s") == pytest.approx(1.3)


def test_a_row_has_the_median_of_the_rounds_and_their_spread() -> None:
    rounds = [
        one("pp8:tg4:c1", front=(seen(100.0, ttft_s, 0.01), seen(100.0, ttft_s, 0.01)), bare=BARE, others=others)
        for ttft_s, others in ((0.102, 0.0), (0.11, 0.02), (0.1, 0.01))
    ]
    [throughput, ttft, tpot] = rows_of(rounds)
    assert [ttft[name] for name in ("ratio", "least", "most", "twice")] == pytest.approx([1.02, 1.0, 1.1, 1.0])
    assert (ttft["goal"], ttft["met"], ttft["others"]) == (1.03, True, 0.02)
    assert (tpot["goal"], tpot["met"]) == (1.03, True)
    assert (throughput["figure"], throughput["goal"], throughput["met"]) == ("output_tps", None, None)


@pytest.mark.parametrize(
    ("load", "front", "met"),
    [
        ("pp8:tg4:c1", seen(1.0, 0.102, 0.0102), {"ttft_p50_s": True, "tpot_p50_s": True}),
        ("pp8:tg4:c1", seen(1.0, 0.104, 0.0102), {"ttft_p50_s": False, "tpot_p50_s": True}),
        ("pp8:tg4:c1", seen(1.0, 0.102, 0.0104), {"ttft_p50_s": True, "tpot_p50_s": False}),
        ("pp8:tg4:c8", seen(96.0, 9.0, 9.0), {"output_tps": True}),
        ("pp8:tg4:c8", seen(94.0, 0.1, 0.01), {"output_tps": False}),
    ],
)
def test_the_goals_are_of_latency_at_one_stream_and_of_throughput_at_eight(
    load: str, front: Seen, met: dict[str, bool]
) -> None:
    rows = rows_of([one(load, front=(front, front), bare=BARE)])
    assert {row["figure"]: row["met"] for row in rows if row["met"] is not None} == met


def test_nothing_is_judged_where_others_disturbed() -> None:
    front = seen(99.0, 0.1, 0.01)
    rows = rows_of([
        one("pp8:tg4:c1", front=(front, front), bare=BARE),
        one("pp8:tg4:c8", front=(front, front), bare=BARE, others=0.2),
    ])  # fmt: skip
    assert [row["met"] for row in rows] == [None, True, True, None, None, None]
    assert table(rows) == [
        "load        figure    served over bare        the same twice  goal  met",
        "pp8:tg4:c1  tok/s     0.990 (0.990 to 0.990)  1.000",
        "pp8:tg4:c1  TTFT p50  1.000 (1.000 to 1.000)  1.000           1.03  yes",
        "pp8:tg4:c1  TPOT p50  1.000 (1.000 to 1.000)  1.000           1.03  yes",
        "pp8:tg4:c8  tok/s     0.990 (0.990 to 0.990)  1.000           0.95  void: others used 20% of the cores",
        "pp8:tg4:c8  TTFT p50  1.000 (1.000 to 1.000)  1.000                 void: others used 20% of the cores",
        "pp8:tg4:c8  TPOT p50  1.000 (1.000 to 1.000)  1.000                 void: others used 20% of the cores",
    ]


def test_answers_that_come_whole_have_no_tpot_to_compare() -> None:
    whole = (seen(100.0, 0.1, 0.0), seen(100.0, 0.1, 0.0))
    both, one_of_them = one("pp8:tg4:c1", front=whole, bare=whole), one("pp8:tg4:c1", front=BARE, bare=whole)
    assert (both.ratio("tpot_p50_s"), both.twice("tpot_p50_s")) == (1.0, 1.0)
    assert one_of_them.ratio("tpot_p50_s") == inf
