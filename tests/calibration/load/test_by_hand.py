"""`python -m calibration.load` against a real server: its table, its JSON, its refusals."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.codec import from_plain
from calibration.load.__main__ import main
from calibration.load.load import Load
from calibration.load.report import table, to_json
from calibration.load.sample import Asked, End, NoPoint, Point, RequestTargets
from tests.calibration.load.mock_server import serving, steady

ROOT = Path(__file__).resolve().parents[3]


def sample(number: int, ttft_s: float, *, due: bool = True) -> Asked:
    return Asked(
        number=number,
        due_s=number / 10 if due else None,
        sent_s=number / 10 + 0.002,
        chunks_s=tuple(round(number / 10 + ttft_s + 0.02 * place, 5) for place in range(6)),
        prompt_tokens=8,
        output_tokens=6,
    )


TARGETS = RequestTargets(ttft_s=0.305)
OPEN = Point(
    load=Load.parse("pp8:tg6:r10"),
    seed=0,
    asked=tuple(sample(number, 0.2 + 0.01 * number) for number in range(20)),
    begin_s=0.0,
    end_s=2.5,
    end=End.REQUESTS,
    foreign_share=0.01,
)


def test_a_table_has_a_row_for_each_point_and_says_below_what_is_to_be_said() -> None:
    saturated = Point(
        load=Load.parse("pp8:tg6:r40"), seed=0, asked=OPEN.asked, begin_s=0.0, end_s=2.0, end=End.SATURATED,
        saturated="requests pile up", void="other programs used 12 % of the cores; 5 % are allowed",
    )  # fmt: skip
    nothing = NoPoint(load=Load.parse("pp8:tg6:c4"), reason="HTTP 401: Unauthorized")
    assert table([OPEN, saturated, nothing], TARGETS) == [
        "load         requests  tok/s  req/s  TTFT p50     p95  TPOT p50      p95  ITL p99  E2E p50     p95",
        "pp8:tg6:r10        20   48.0   8.00    295 ms  381 ms   20.0 ms  20.0 ms  20.0 ms   395 ms  480 ms",
        "  TTFT <= 0.305 s for 95 % of requests: kept by 0.55 (0.34 to 0.74) of 20 requests; goodput 4.40 req/s",
        "  sent late by 2.00 ms (p50), 2.00 ms (most)",
        "pp8:tg6:r40        20   49.5   8.00         -       -         -        -        -        -       -",
        "  TTFT <= 0.305 s for 95 % of requests: kept by 0.55 (0.34 to 0.74) of 20 requests",
        "  saturated: requests pile up",
        "  void: other programs used 12 % of the cores; 5 % are allowed",
        "  sent late by 2.00 ms (p50), 2.00 ms (most)",
        "  nobody watched what else used the cores: --pid names the server's process",
        "pp8:tg6:c4          -      -      -         -       -         -        -        -        -       -",
        "  not measured: HTTP 401: Unauthorized",
    ]


def test_json_has_every_figure_in_seconds() -> None:
    shown = to_json(OPEN, TARGETS)
    assert json.loads(json.dumps(shown)) == shown
    assert shown["ttft"] == pytest.approx({"p50_s": 0.295, "p90_s": 0.371, "p95_s": 0.3805, "p99_s": 0.3881})
    assert shown["tpot"]["p50_s"] == pytest.approx(0.02)
    assert (shown["load"], shown["requests"], shown["failed_requests"]) == ("pp8:tg6:r10", 20, 0)
    assert (shown["attainment"]["kept"], shown["attainment"]["of"]) == (11, 20)
    assert shown["goodput"] == pytest.approx(4.4)
    assert "goodput" not in to_json(OPEN, None)
    assert to_json(NoPoint(load=OPEN.load, reason="gone"), None) == {"load": "pp8:tg6:r10", "failed": "gone"}


def test_a_load_is_measured_by_hand(tmp_path: Path) -> None:
    with serving(steady(0.005, 0.001)) as mock:
        words = "--load pp8:tg4:c2 --load pp8:tg4:r50 --requests 20 --ttft 5 --json --samples"
        run = subprocess.run(
            [sys.executable, "-m", "calibration.load", mock.url, *words.split(), str(tmp_path / "points.json")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AUTOBACKEND_API_KEY": "k another"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert {seen.body["model"] for seen in mock.requests} == {"mock"}  # the name that the server tells
        assert {seen.headers["authorization"] for seen in mock.requests} == {"Bearer k"}
    assert run.returncode == 0, run.stderr
    assert run.stderr == "pp8:tg4:c2 ...\npp8:tg4:r50 ...\n"
    shown = json.loads(run.stdout)
    points = [from_plain(Point, plain) for plain in json.loads((tmp_path / "points.json").read_text())]
    assert [one["load"] for one in shown] == [one.load.label for one in points] == ["pp8:tg4:c2", "pp8:tg4:r50"]
    assert [one["requests"] for one in shown] == [len(one.sample) for one in points] == [20, 20]
    # Whoever listens was found: the load of this process, which the server is a part of, is not the others'.
    assert all(one.foreign_share is not None and one.peak_memory_bytes > 0 for one in points)


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        ([], "nothing to measure\nname a load (--load pp64:tg32:c4) or a trace (--trace FILE)", 2),
        (["--load", "pp8"], "unknown load 'pp8'\n.*", 2),
        (["--load", "pp8:tg8:c1", "--tpot", "0"], "needs a target of more than 0 s for tpot; found 0", 2),
        (["--load", "pp8:tg8:c1"], "http://127.0.0.1:1/v1/models tells no model: .*refused\nname it with --model", 2),
        (["--trace", "none.jsonl"], "the trace none.jsonl cannot be read: .*\n.*", 2),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str], sentence: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["http://127.0.0.1:1", *words]) == code
    assert re.fullmatch(sentence if "*" in sentence else re.escape(sentence), capsys.readouterr().err.strip())


def test_a_server_that_is_not_there_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:1", "--model", "m", "--load", "pp8:tg8:c1", "--budget", "5"]) == 1
    assert "not measured: ConnectionRefusedError" in capsys.readouterr().out
