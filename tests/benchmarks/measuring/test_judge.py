"""The judges get the very requests of our client, and figures of a whole run are compared with theirs."""

import json
from pathlib import Path

import pytest

from benchmarks.measuring.judge.bodies import bodies, write_payloads
from benchmarks.measuring.judge.judge import compare, table
from benchmarks.measuring.judge.seen import Seen, seen_by_us
from calibration.load.client.load_spec import LoadSpec
from calibration.load.load import Load
from calibration.load.run import LoadedServer, measure
from calibration.load.sample import Asked, End, Point
from tests.calibration.load.mock_server import Mock, serving, steady


def spec_of(mock: Mock, label: str, requests: int = 12) -> tuple[LoadedServer, LoadSpec]:
    served = LoadedServer(url=mock.url, model="mock", vocab_size=100)
    spec = LoadSpec(
        url=served.url, model="mock", vocab_size=100, fields=served.fields, load=Load.parse(label), seed="0",
        prompt_seed="judged", requests=requests, budget_s=60.0, patience_s=10.0, whole=True,
    )  # fmt: skip
    return served, spec


@pytest.mark.parametrize("label", ["pp5-20:tg6:c3", "pp5-20:tg6:r60"])
def test_bodies_are_those_that_our_client_sends(label: str) -> None:
    with serving(steady(0.002, 0.001)) as mock:
        served, spec = spec_of(mock, label)
        point = measure(served, spec)
        sent = [seen.body for seen in mock.requests if seen.body["max_tokens"] != 8 or seen.number > 2]
    assert isinstance(point, Point)
    # Exactly these, all of which count; after the warm-up of three lengths.
    assert len(point.sample) == len(point.asked) == 12
    assert [asked.number for asked in point.sample] == list(range(12))
    written = [body.fields for body in bodies(spec)]
    assert sorted(map(json.dumps, sent[-12:])) == sorted(map(json.dumps, written))
    assert [body.due_s for body in bodies(spec)] == pytest.approx([asked.due_s for asked in point.sample], abs=1e-5)


def test_a_payload_has_the_millisecond_and_the_body(tmp_path: Path) -> None:
    with serving(steady(0.0, 0.0)) as mock:
        _, spec = spec_of(mock, "pp5:tg6:r60", requests=2)
    requests = bodies(spec)
    write_payloads(requests, tmp_path / "payloads.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "payloads.jsonl").read_text().splitlines()]
    assert [line["payload"] for line in lines] == [request.fields for request in requests]
    assert [line["timestamp"] for line in lines] == pytest.approx([1e3 * (r.due_s or 0.0) for r in requests], abs=1.0)


def asked(number: int, sent_s: float, *chunks_s: float, tokens: int) -> Asked:
    return Asked(
        number=number, due_s=sent_s - 0.5, sent_s=sent_s, chunks_s=chunks_s, prompt_tokens=8, output_tokens=tokens
    )


def test_our_figures_are_of_the_whole_run_and_from_when_a_request_was_sent() -> None:
    point = Point(
        load=Load.parse("pp8:tg4:r1"), seed=0, begin_s=0.0, end_s=9.0, end=End.REQUESTS,
        asked=(asked(0, 1.0, 1.5, 2.5, tokens=5), asked(1, 2.0, 3.0, 5.0, tokens=3)),
    )  # fmt: skip
    assert seen_by_us(point) == Seen(
        tool="ours", requests=2, failed=0, output_tps=2.0, ttft_p50_s=0.75, tpot_p50_s=0.625
    )


def seen(tool: str, tps: float, ttft_s: float, tpot_s: float) -> Seen:
    return Seen(tool=tool, requests=12, failed=0, output_tps=tps, ttft_p50_s=ttft_s, tpot_p50_s=tpot_s)


def test_a_judge_stands_between_two_runs_of_ours(tmp_path: Path) -> None:
    order: list[str] = []

    def judge(spec: LoadSpec, folder: Path) -> Seen:
        order.append(folder.name)
        return seen("another", 100.0, 0.5, 0.01)

    with serving(steady(0.01, 0.001)) as mock:
        served, spec = spec_of(mock, "pp5:tg6:c2")
        [row] = compare(served, spec, [judge], 2, tmp_path)
        assert len(mock.requests) == 3 * (1 + 12)  # three runs of ours, each with its warm-up
    assert order == ["pp5-tg6-c2-0-0", "pp5-tg6-c2-1-0"]
    assert [[run["tool"] for run in runs] for runs in row["runs"]] == [["ours", "another", "ours"]] * 2
    # The second run of ours is the last beside the first judge and the first beside the second.
    assert row["runs"][0][2] == row["runs"][1][0]
    (before, theirs, after), (_, _, last) = row["runs"]
    ratios = [
        2 * theirs["output_tps"] / (a["output_tps"] + b["output_tps"]) for a, b in ((before, after), (after, last))
    ]
    assert row["output_tps_ratio"] == pytest.approx(sum(ratios) / 2)


def test_a_table_says_what_is_beyond_the_goal() -> None:
    row = {
        "server": "there", "load": "pp8:tg8:c4", "beside": "another 1.0", "foreign_share_most": 0.01,
        "output_tps_ratio": 0.98, "output_tps_ours_spread": 0.004, "ttft_p50_s_ratio": 1.05,
        "ttft_p50_s_ours_spread": 0.01, "tpot_p50_s_ratio": 1.0506, "tpot_p50_s_ours_spread": 0.0,
    }  # fmt: skip
    disturbed = {**row, "tpot_p50_s_ratio": 1.0504, "foreign_share_most": 0.5}
    told = [line.replace("50% of the cores", "half") for line in table([row, disturbed])]
    assert told == [
        "server  load        beside       tok/s          TTFT p50       TPOT p50       within 5%",
        "there   pp8:tg8:c4  another 1.0  0.980 ± 0.004  1.050 ± 0.010  1.051 ± 0.000  no: TPOT",
        "there   pp8:tg8:c4  another 1.0  0.980 ± 0.004  1.050 ± 0.010  1.050 ± 0.000  yes (others used half)",
    ]
