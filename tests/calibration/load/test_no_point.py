"""Servers that refuse, fail, die or never answer: what is no point, and what is a void one."""

import asyncio
import os
import signal
import subprocess
import sys

import psutil
import pytest

from calibration.load.client.load_spec import LoadSpec
from calibration.load.load import Load
from calibration.load.run import LoadedServer, measure
from calibration.load.sample import CUT, End, NoPoint, Point, RequestTargets
from tests.calibration.load.measuring import measured, point
from tests.calibration.load.mock_server import Reply, Script, serving, steady


def _failing(number_from: int, status: str) -> Script:
    good = steady(0.001, 0.0)

    async def script(reply: Reply) -> None:
        if reply.seen.number < number_from:
            await good(reply)
        else:
            await reply.head(status, "application/json")
            await reply.raw('{"error": {"message": "too many"}}')
            await reply._write(b"0\r\n\r\n")

    return script


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (_failing(0, "401 Unauthorized"), "HTTP 401: too many"),
        (_failing(0, "400 Bad Request"), "HTTP 400: too many"),
        (_failing(20, "500 Internal Server Error"), "HTTP 500: too many"),
        (_failing(20, "429 Too Many Requests"), "HTTP 429: too many"),
    ],
)
def test_a_closed_loop_that_is_refused_is_no_point(script: Script, reason: str) -> None:
    with serving(script) as mock:
        outcome = measured(mock, "pp8:tg2:c4")
        assert len(mock.requests) < 50  # it is not asked for ever
    assert outcome == NoPoint(load=Load.parse("pp8:tg2:c4"), reason=reason)


def test_an_open_loop_that_is_refused_for_too_many_requests_is_saturated() -> None:
    with serving(_failing(20, "429 Too Many Requests")) as mock:
        refused = point(mock, "pp8:tg2:r200")
    assert (refused.saturated, refused.end) == ("the server refuses: HTTP 429: too many", End.SATURATED)


def test_a_point_with_failed_requests_is_void() -> None:
    good, bad = steady(0.001, 0.0), _failing(0, "500 Internal Server Error")

    async def one_in_ten(reply: Reply) -> None:
        await (bad if reply.seen.number % 10 == 9 else good)(reply)

    with serving(one_in_ten) as mock:
        failed = point(mock, "pp8:tg2:c2", requests=50)
    assert failed.void == f"{len(failed.failures)} of 50 requests failed: HTTP 500: too many"
    assert 4 <= len(failed.failures) <= 6
    assert failed.attainment(RequestTargets(ttft_s=9.0)).kept == 50 - len(failed.failures)


async def _cached(reply: Reply) -> None:
    await reply.head()
    await reply.token(finish="length")
    await reply.usage(reply.tokens, prompt_tokens_details=None)
    if reply.seen.number:
        count = len(reply.seen.body["prompt"])
        details = {"cached_tokens": count // 2}
        await reply.event(
            {
                "choices": [],
                "usage": {"prompt_tokens": count, "completion_tokens": reply.tokens, "prompt_tokens_details": details},
            }
        )
    await reply.end()


def test_a_cache_of_prefixes_voids_a_point() -> None:
    with serving(_cached) as mock:
        cached = point(mock, "pp8:tg2:c2", requests=50)
    assert cached.void == "a cache of prefixes answered 50 % of the prompt tokens"


def test_a_server_that_is_gone_is_no_point() -> None:
    with serving(steady(0.0, 0.0)) as mock:
        pass
    outcome = measured(mock, "pp8:tg2:c1")
    assert isinstance(outcome, NoPoint)
    assert outcome.reason.startswith("ConnectionRefusedError")


def test_a_budget_that_is_too_short_says_so() -> None:
    with serving(steady(0.6, 0.0)) as mock:
        warm = measured(mock, "pp8-24:tg2:c1", budget_s=0.5)
        steady_ = measured(mock, "pp8:tg2:c1", budget_s=0.9)
    assert isinstance(warm, NoPoint) and isinstance(steady_, NoPoint)
    assert warm.reason == "the warm-up took the whole budget of 0.5 s"
    assert steady_.reason == "the budget of 0.9 s ended before the load was steady: 0 answers"


def test_an_answer_that_never_comes_is_waited_for_only_so_long() -> None:
    quick = steady(0.005, 0.0)

    async def one_stalls(reply: Reply) -> None:
        if reply.seen.number == 12:
            await reply.head()
            await reply.token()
            await asyncio.sleep(60)
        await quick(reply)

    with serving(one_stalls) as mock:
        served = LoadedServer(url=mock.url, model="mock", vocab_size=100)
        spec = LoadSpec(
            url=mock.url, model="mock", vocab_size=100, fields=served.fields, load=Load.parse("pp8:tg4-8:c2"), seed="0",
            prompt_seed="0", requests=1000, budget_s=1.0, patience_s=1.0,
        )  # fmt: skip
        stalled = measure(served, spec)
    assert isinstance(stalled, Point)
    assert stalled.end is End.BUDGET
    [cut] = [asked for asked in stalled.sample if asked.error]
    assert (cut.error, len(cut.chunks_s)) == (CUT, 1)
    # The other stream kept asking until nothing was waited for any more.
    assert max(asked.sent_s for asked in stalled.asked) > 1.5
    assert stalled.attainment(RequestTargets(e2e_s=10.0)).kept == len(stalled.sample) - 1


def test_a_server_that_dies_within_a_load_is_no_point() -> None:
    quick = steady(0.005, 0.0)

    async def dies(reply: Reply) -> None:
        if reply.seen.number < 20:
            await quick(reply)
        else:
            await reply.head()
            await reply.token()
            reply.writer.transport.abort()

    with serving(dies) as mock:
        outcome = measured(mock, "pp8:tg4-8:c8")
    assert isinstance(outcome, NoPoint)
    assert outcome.reason.startswith(("ConnectionResetError", "the stream ended after"))


def test_the_client_ends_with_its_parent() -> None:
    code = (
        "import sys\n"
        "from calibration.load.load import Load\n"
        "from calibration.load.run import Measuring, LoadedServer, run_load\n"
        "served = LoadedServer(url=sys.argv[1], model='mock', vocab_size=100)\n"
        "tell = lambda event: print(event, flush=True)\n"
        "run_load(served, Load.parse('pp8:tg50:c1'), Measuring(budget_s=60), tell=tell)\n"
    )
    with serving(steady(0.01, 0.01)) as mock:
        parent = subprocess.Popen(
            [sys.executable, "-c", code, mock.url],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"steady\n"
        clients = psutil.Process(parent.pid).children(recursive=True)
        assert [" ".join(client.cmdline()[-2:]) for client in clients] == ["-m calibration.load.client"]
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
        _, alive = psutil.wait_procs(clients, timeout=10)
        assert alive == []
