"""Loads measured by the client in a process of its own, against a real server that notes what it saw."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from calibration.errors import UsageError
from calibration.load.client.draws import plan
from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, requests_of, run_load
from calibration.load.sample import CUT, End, Figure, Point, RequestTargets
from calibration.load.trace import Arrival, Trace
from tests.calibration.load.measuring import point
from tests.calibration.load.mock_server import Reply, Seen, serving, steady

WARM_UP = 3
"""Requests of the warm-up where a load has three lengths of prompts; 1 where it has one."""


def at_once(requests: Sequence[Seen], span_s: float) -> int:
    """The most requests that had come and were not yet answered after `span_s`."""
    edges = sorted([(seen.came_s, 1) for seen in requests] + [(seen.came_s + span_s, -1) for seen in requests])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def test_a_closed_loop_measures_the_server_and_not_the_client() -> None:
    with serving(steady(0.03, 0.005)) as mock:
        told: list[str] = []
        served = LoadedServer(url=mock.url, model="mock", vocab_size=100, key="k", pids=())
        outcome = run_load(served, Load.parse("pp10-30:tg8:c3"), Measuring(budget_s=30), tell=told.append)
    assert isinstance(outcome, Point)
    assert told == ["steady", "ended"]
    assert (outcome.end, outcome.saturated, outcome.failures) == (End.REQUESTS, "", ())
    assert len(outcome.sample) == 100 == requests_of(outcome.load)

    warm_up, load = mock.requests[:WARM_UP], mock.requests[WARM_UP:]
    assert [len(seen.body["prompt"]) for seen in warm_up] == [10, 20, 30]
    assert {seen.headers["authorization"] for seen in load} == {"Bearer k"}
    # The requests are those that the seed draws.
    for planned, asked in zip(plan(outcome.load, "0"), outcome.asked, strict=False):
        assert asked.number == planned.number
        if not asked.error:
            assert (asked.prompt_tokens, asked.output_tokens) == (planned.prompt_tokens, planned.output_tokens)
    assert all(
        seen.body
        == {
            **seen.body,
            "model": "mock",
            "temperature": 0,
            "stream": True,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        for seen in load
    )
    assert len({tuple(seen.body["prompt"][:5]) for seen in mock.requests}) == len(mock.requests)
    assert at_once(load, 0.03) == 3

    # Every answer took at least as long as the server took, and has as many chunks.
    for asked in outcome.sample:
        assert asked.ttft_s >= 0.03 - 1e-4
        assert len(asked.chunks_s) == asked.output_tokens
        assert asked.e2e_s >= 0.03 + 0.005 * (asked.output_tokens - 1) - 1e-3
    assert outcome.begin_s >= max(asked.sent_s for asked in outcome.asked[:3])
    assert outcome.end_s == max(asked.last_s for asked in outcome.sample)
    assert outcome.output_tps is not None and outcome.request_rate is not None
    mean_tokens = sum(a.output_tokens for a in outcome.sample) / 100
    assert outcome.output_tps == pytest.approx(outcome.request_rate * mean_tokens, rel=0.15)
    assert 0 < outcome.client_cores < 1


def test_a_streams_next_request_waits_for_its_answer() -> None:
    with serving(steady(0.01, 0.0)) as mock:
        measured_point = point(mock, "pp8:tg2:c1", requests=10)
    sent = [asked.sent_s for asked in measured_point.asked]
    ended = [asked.last_s for asked in measured_point.asked if not asked.error]
    assert all(later >= earlier for earlier, later in zip(ended, sent[1:], strict=False))


async def _stall(reply: Reply) -> None:
    """The warm-up is answered; after the twelfth request nothing is, until the twentieth has come."""
    await reply.head()
    if reply.seen.number >= 12:
        _stall_waits.append(reply.seen.number)
        while len(_stall_waits) < 8:
            await asyncio.sleep(0.002)
    for place in range(reply.tokens):
        await reply.token(finish="length" if place == reply.tokens - 1 else None)
    await reply.usage(reply.tokens)
    await reply.end()


_stall_waits: list[int] = []


def test_an_open_loop_sends_on_while_answers_stall_and_their_wait_counts() -> None:
    _stall_waits.clear()
    with serving(_stall) as mock:
        stalled = point(mock, "pp8:tg2:r100", requests=40)
    # Had it waited for an answer, the server would have waited for its eighth request for ever.
    assert stalled.failures == ()
    assert len(stalled.sample) == 40
    due = [planned.due_s for planned, _ in zip(plan(stalled.load, "0"), range(45), strict=False)]
    assert [asked.due_s for asked in stalled.sample] == pytest.approx(due[5:], abs=2e-5)
    assert all(asked.sent_s >= (asked.due_s or 0.0) - 1e-4 for asked in stalled.sample)
    assert all(asked.ttft_s >= asked.chunks_s[0] - asked.sent_s - 1e-4 for asked in stalled.sample)
    delays = stalled.send_delays_s
    assert len(delays) == 40 and min(delays) >= -1e-4


def test_the_same_requests_come_at_the_same_times_whatever_the_server_does() -> None:
    plans = []
    for script in (steady(0.0, 0.0), steady(0.03, 0.001)):
        with serving(script) as mock:
            plans.append([(a.due_s, a.output_tokens) for a in point(mock, "pp8:tg4:r100", requests=20).sample])
    assert plans[0] == plans[1]


def test_an_open_loop_ends_when_its_attainment_is_clear() -> None:
    targets = RequestTargets(ttft_s=5.0)
    with serving(steady(0.0, 0.0)) as mock:
        clear = point(mock, "pp8:tg2:r200", targets=targets, requests=1000)
    assert clear.end is End.CLEAR
    assert 73 <= len(clear.sample) < 200
    assert clear.attainment(targets).interval[0] > 0.95


def test_an_open_loop_below_its_target_is_stopped_and_marked() -> None:
    targets = RequestTargets(ttft_s=0.001)
    with serving(steady(0.02, 0.0)) as mock:
        below = point(mock, "pp8:tg2:r100", targets=targets, requests=1000)
    assert below.saturated.endswith("requests kept to TTFT <= 0.001 s for 95 % of requests")
    assert (below.end, below.percentile(Figure.TTFT, 50), below.goodput(targets)) == (End.SATURATED, None, None)


def test_a_trace_is_replayed_as_it_came() -> None:
    arrivals = tuple(Arrival(at_s=0.03 * i, prompt_tokens=4 + i, output_tokens=1 + i % 3) for i in range(20))
    trace = Trace(arrivals=arrivals)
    with serving(steady(0.001, 0.001)) as mock:
        replayed = point(mock, "", trace=trace)
    assert replayed.load == trace.load
    assert [(len(seen.body["prompt"]), seen.body["max_tokens"]) for seen in mock.requests[:3]] == [
        (4, 3),
        (14, 3),
        (23, 2),
    ]
    assert [(a.prompt_tokens, a.output_tokens) for a in replayed.sample] == [
        (a.prompt_tokens, a.output_tokens) for a in arrivals
    ]
    assert [a.due_s for a in replayed.sample] == pytest.approx([a.at_s for a in arrivals], abs=1e-5)


@pytest.mark.parametrize(("label", "found"), [("pp4-5:tg4:r1:t00000000", "none"), ("pp4-5:tg4:r1", "the trace")])
def test_a_load_of_a_trace_is_measured_with_that_trace_alone(label: str, found: str) -> None:
    arrivals = (
        Arrival(at_s=0.0, prompt_tokens=4, output_tokens=4),
        Arrival(at_s=1.0, prompt_tokens=5, output_tokens=4),
    )
    trace = None if found == "none" else Trace(arrivals=arrivals)
    served = LoadedServer(url="http://127.0.0.1:1", model="mock", vocab_size=100)
    with pytest.raises(UsageError, match=f"the load {label} needs its trace; found {found}"):
        run_load(served, Load.parse(label), Measuring(budget_s=1.0), trace=trace)


async def _words_only(reply: Reply) -> None:
    if isinstance(reply.seen.body["prompt"], list):
        await reply.head("422 Unprocessable Entity", "application/json")
        await reply.raw('{"error": {"message": "prompt must be a text"}}')
        await reply._write(b"0\r\n\r\n")
    else:
        await steady(0.001, 0.0)(reply)


def test_a_server_without_token_ids_gets_words_that_make_as_many_tokens() -> None:
    with serving(_words_only) as mock:
        words = point(mock, "pp23-63:tg2:c2", requests=20)
    assert words.text_prompts
    # The server counts 2 tokens a word and 3 more: 10 to 30 words.
    assert {a.prompt_tokens % 2 for a in words.sample} == {1}
    planned = {p.number: p.prompt_tokens for p, _ in zip(plan(words.load, "0"), range(60), strict=False)}
    assert all(abs(a.prompt_tokens - planned[a.number]) <= 1 for a in words.sample)


def test_requests_beyond_the_sample_keep_the_load_up_until_it_is_answered() -> None:
    with serving(steady(0.01, 0.01)) as mock:  # who is cut has tokens left, on a busy machine, too
        kept_up = point(mock, "pp8:tg20:c4", requests=12)
        while mock.open:
            time.sleep(0.01)
        seen = list(mock.requests)
    fillers = [asked for asked in kept_up.asked if not asked.counted and asked.sent_s > kept_up.begin_s]
    assert len(kept_up.sample) == 12
    assert fillers and {asked.error for asked in fillers} <= {"", CUT}
    assert [a.number for a in kept_up.sample] == list(range(kept_up.sample[0].number, kept_up.sample[0].number + 12))
    # Whoever is cut leaves, so that the server has its places back; it may have written the last token by then.
    assert 0 < sum(one.left for one in seen) <= sum(asked.error == CUT for asked in kept_up.asked)


def test_a_trace_is_sent_whole_whatever_its_targets() -> None:
    arrivals = tuple(Arrival(at_s=0.01 * i, prompt_tokens=4, output_tokens=2) for i in range(120))
    trace, targets = Trace(arrivals=arrivals), RequestTargets(ttft_s=5.0)
    with serving(steady(0.001, 0.001)) as mock:
        replayed = point(mock, "", trace=trace, targets=targets)
    assert (len(replayed.sample), replayed.end, replayed.targets) == (120, End.REQUESTS, None)
    assert replayed.attainment(targets).kept == 120
