"""The screens of what was served: a line while it goes on, a table, and what a person would say."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from calibration.cache.cache import Cache
from calibration.events import (
    Event,
    LaunchEnded,
    PointBegan,
    PointEnded,
    ServedCheckBegan,
    ServedCheckEnded,
    ServerBegan,
    ServerGivenUp,
    ServerReady,
)
from calibration.load.load import Load
from calibration.load.sample import NoPoint
from calibration.measurement import NOT_AS_SERVED, Agreement, OutputVerdict
from calibration.served.tally import ServedTally
from selector.screens.calibration.progress import Progress
from selector.screens.served import checked, found, point, sentences, table, verdict, whole
from tests.calibration.points import C4
from tests.calibration.points import point as measured
from tests.selector.answering import CT2, HOST, KEY, SDPA, answer
from tests.selector.launches import LOSSY, RIGHT, RIGHT_AS_SERVED, served, unserved

LOAD = "pp64:tg32:c8"
EASY = measured(C4, tps=100.0, ttft_s=0.04)
TOLD = "pp16:tg8:c4: 100 tok/s, TTFT p50 40.0 ms, p95 40.0 ms, TPOT p50 40.0 ms, p95 40.0 ms, 20 requests in 1.60 s"


def progress(*events: Event) -> list[str]:
    """What stands on a stderr that is no terminal."""
    stream = io.StringIO()
    with Progress(Console(file=stream, width=200)) as reporter:
        for event in events:
            reporter.report(event)
    return stream.getvalue().splitlines()


def test_a_launch_is_told_step_by_step() -> None:
    launch = served(SDPA, KEY, HOST, {LOAD: 160.0})
    assert progress(
        ServerBegan(candidate=SDPA, slots=8, threads=1, left_s=125.0),
        ServerReady(candidate=SDPA, seconds=2.5),
        ServedCheckBegan(candidate=SDPA),
        ServedCheckEnded(candidate=SDPA, agreement=RIGHT_AS_SERVED),
        PointBegan(candidate=SDPA, load=C4, number=1, of=2),
        PointEnded(candidate=SDPA, point=EASY),
        LaunchEnded(outcome=launch),
        ServerGivenUp(candidate=SDPA, why="the budget ended"),
    ) == [
        f"{SDPA}  starting a server with 8 slots and 1 thread  about 2:05 min left",
        f"{SDPA}  ready after 2.50 s  about 2:05 min left",
        f"{SDPA}  checking what it answers  about 2:05 min left",
        f"{SDPA}, output right, as served: 61 of 61 tokens of 12 requests at once are the reference's",
        f"{SDPA}  load 1/2 pp16:tg8:c4  about 2:05 min left",
        f"{SDPA}, {TOLD}",
        f"{SDPA}, round 1: served 1 load with 8 slots, 2 threads, ready after 600 ms, 1.0 GiB, output right, as served",
        f"{SDPA}, nothing of this server is kept: the budget ended",
    ]


@pytest.mark.parametrize(
    ("taken", "sentence"),
    [
        (NoPoint(load=C4, reason="401: wrong key"), "pp16:tg8:c4: not measured, 401: wrong key"),
        (replace(EASY, saturated="40 in flight"), "pp16:tg8:c4: saturated, 40 in flight"),
        (
            replace(EASY, void="others were busy"),
            f"{TOLD}, void: others were busy",
        ),
    ],
)
def test_a_load_that_is_over(taken: Any, sentence: str) -> None:
    assert point(taken) == sentence


def test_answers_that_come_whole_have_no_tpot() -> None:
    at_once = replace(EASY, asked=tuple(replace(a, chunks_s=(a.chunks_s[-1],)) for a in EASY.asked))
    assert "TPOT p50 -, p95 -," in point(at_once)


def test_a_saturated_candidate_has_no_times(cache: Cache) -> None:
    launch = served(SDPA, KEY, HOST, {"pp64:tg32:r2": 64.0})
    stuck = replace(launch, points=(replace(launch.points[0], saturated="in flight: 40"),))
    chosen = answer(cache, stuck, served(CT2, KEY, HOST, {"pp64:tg32:r2": 40.0}), workload="pp64:tg32:r2")
    assert chosen.candidate.label == CT2
    row = next(line for line in table(chosen.served) if line.startswith(SDPA))
    assert row.split()[4:9] == ["-"] * 5
    assert row.endswith("saturated")


def test_the_verdict_says_how_many_times_better(cache: Cache) -> None:
    cache.add(*(served(CT2, KEY, HOST, {LOAD: 80.0}, round_=n) for n in (1, 2)))
    chosen = answer(
        cache,
        *(served(SDPA, KEY, HOST, {LOAD: 160.0}, round_=n) for n in (1, 2)),
        workload=LOAD,
        objective="throughput",
    )
    said = verdict(chosen)
    assert said.startswith(f"{SDPA} generates 160 tok/s of {LOAD} as served with 2 threads, 2.00 ± ")
    assert said.endswith(f" times faster than {CT2}.")


def test_the_verdict_on_goodput_and_on_targets(cache: Cache) -> None:
    cache.add(served(CT2, KEY, HOST, {LOAD: 240.0}, ttft_s=0.9))
    asked: dict[str, Any] = {"workload": LOAD, "ttft_s": 0.5}
    chosen = answer(cache, served(SDPA, KEY, HOST, {LOAD: 160.0}), objective="goodput", **asked)
    assert verdict(chosen).startswith(
        f"{SDPA} answers 5.00 requests a second of {LOAD} within its targets as served with 2 threads, and meets"
        " TTFT <= 0.5 s at p95 (> 99 % likely to meet)"
    )
    only = answer(cache, objective="throughput", **asked)
    assert verdict(only).endswith("; nothing else does.")
    nobody = answer(cache, objective="throughput", workload=LOAD, ttft_s=0.01)
    assert verdict(nobody).endswith("(< 1 % likely to meet); nothing that was measured meets them.")


def test_one_candidate_alone(cache: Cache) -> None:
    chosen = answer(cache, served(SDPA, KEY, HOST, {LOAD: 160.0}), workload=LOAD, objective="ttft")
    assert verdict(chosen) == (
        f"{SDPA} gives the first token of {LOAD} after 100 ms as served with 2 threads; nothing else was measured so."
    )


def test_what_was_not_measured_is_said() -> None:
    launch, failed = served(SDPA, KEY, HOST, {LOAD: 160.0}, void="others were busy"), unserved(CT2, KEY, HOST)
    tally = ServedTally(
        calibration_id="s1",
        loads=(Load.parse(LOAD),),
        outcomes=(launch, failed),
        fresh=frozenset({launch.run_id, failed.run_id}),
        out={CT2: "crashed in pp64:tg32:c8"},
        ended="budget",
        unmeasured=("vllm:default",),
        check_s=1.0,
        seconds=9.0,
    )
    assert sentences(tally) == [
        f"{CT2} was out: crashed in pp64:tg32:c8.",
        "Never served within the budget: vllm:default. The same command goes on from here.",
        "1 load of 1 is void: others were busy.",
        "Correctness checks, as served too, took 11 % of 9.00 s.",
    ]
    assert sentences(replace(tally, unmeasured=(), out={}, outcomes=(), fresh=frozenset())) == [
        "The budget ended before all was decided under load: the same command goes on from here.",
        "Nothing under load was missing or stale, so nothing was served anew (--again measures it all).",
    ]


def test_the_cache_shows_a_launch_with_its_loads() -> None:
    launch = served(SDPA, KEY, HOST, {LOAD: 160.0, "pp64:tg32:c1": 30.0})
    shown = whole(launch)
    assert shown.startswith(
        "served 2 loads with 8 slots, 2 threads, ready after 600 ms, 1.0 GiB, output right, as served: pp64:tg32:c8: 16"
    )
    assert "; pp64:tg32:c1: 30.0 tok/s," in shown


WRONG = Agreement(verdict=OutputVerdict.WRONG, detail="token 7 after prompt 2 is 9, ...")


@pytest.mark.parametrize(
    ("alone", "as_served", "said"),
    [
        (RIGHT, RIGHT_AS_SERVED, "right, as served"),
        (LOSSY, replace(RIGHT_AS_SERVED, verdict=OutputVerdict.LOSSY), "lossy (KL 0.012), as served"),
        (RIGHT, NOT_AS_SERVED, "right, not checked as served"),
        (RIGHT, WRONG, "wrong as served"),
    ],
)
def test_a_verdict_says_whether_it_is_of_what_was_served(alone: Agreement, as_served: Agreement, said: str) -> None:
    assert checked(alone, as_served) == said


def test_a_verdict_on_what_was_served_is_told_with_what_was_compared() -> None:
    assert found(WRONG) == "wrong output as served: token 7 after prompt 2 is 9, ..."
    assert found(NOT_AS_SERVED) == "not checked as served: an older autobackend compared nothing as served"


def test_the_table_tells_verdicts_where_not_all_are_right_as_served(cache: Cache) -> None:
    right = served(SDPA, KEY, HOST, {LOAD: 160.0})
    chosen = answer(cache, right, served(CT2, KEY, HOST, {LOAD: 80.0}, as_served=NOT_AS_SERVED), workload=LOAD)
    head, *rows = table(chosen.served)
    assert head.split()[-1] == "output"
    assert [row.rsplit("%", 1)[1].strip() for row in rows] == ["right, as served", "right, not checked as served"]
    [alone] = table(chosen.served[:1])[1:]
    assert "as served" not in alone
