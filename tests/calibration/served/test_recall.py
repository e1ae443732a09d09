"""A trace read back from the launches under it, told by its digest."""

import json
from dataclasses import replace
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.load.client.ask import Answer
from calibration.load.sample import CUT, Point
from calibration.load.trace import read_trace
from calibration.measurement import Served
from calibration.served.recall import recalled
from tests.calibration.launches import served, unserved
from tests.calibration.points import C4, point, replayed, trace_of

TRACE = trace_of(20)


def launch(*points: Point) -> Served:
    return served(1, points=points)


def test_what_a_launch_was_sent_is_the_trace() -> None:
    other = launch(replayed(trace_of(9)), point(C4, tps=100.0))
    found = recalled(TRACE.load, [unserved(2), other, launch(replayed(TRACE))])
    assert found == TRACE
    assert found.name == "requests"


def test_a_load_that_was_stopped_is_not_the_whole_trace() -> None:
    whole = replayed(TRACE)
    stopped = replace(whole, asked=whole.asked[:-1])
    cut = replace(whole, asked=(*whole.asked[:-1], replace(whole.asked[-1], output_tokens=0, error=CUT)))
    assert recalled(TRACE.load, [launch(stopped), launch(cut)]) is None
    assert recalled(TRACE.load, [launch(whole), launch(stopped)]) == TRACE


def test_words_are_counted_otherwise() -> None:
    words = replayed(TRACE)
    words = replace(words, asked=tuple(replace(a, prompt_tokens=a.prompt_tokens + 1) for a in words.asked))
    assert recalled(TRACE.load, [launch(words)]) is None


def test_arrivals_are_as_exact_in_a_launch_as_in_a_trace(tmp_path: Path) -> None:
    """The digest has milliseconds: what is near to half of one must be rounded alike."""
    times = (7.0, 7.1234996, 7.1235004, 9.0000049)
    rows = ({"arrival_s": at, "prompt_tokens": 9, "output_tokens": 2} for at in times)
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for came in read_trace(tmp_path / "requests.jsonl").arrivals:
        sent = Answer(number=0, prompt_tokens=9, output_tokens=2, due_s=came.at_s, sent_s=came.at_s)
        assert sent.asked().due_s == came.at_s


def test_a_row_of_the_cache_tells_the_name_and_the_hash(cache: Cache) -> None:
    cache.add(launch(replayed(TRACE)))
    [kept] = cache.all()
    assert isinstance(kept, Served)
    load = kept.points[0].load
    assert (load.trace, load.facts, load.title) == (
        TRACE.digest,
        TRACE.load.facts,
        "trace:requests 20 requests in 9.5 s",
    )
    assert recalled(load, [kept]) == TRACE
