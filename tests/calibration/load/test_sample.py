"""What a load leaves: figures of a few requests, computed by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.codec import from_plain, to_plain
from calibration.errors import UsageError
from calibration.load.load import Load
from calibration.load.sample import CUT, Asked, End, Figure, Point, RequestTargets

CLOSED, OPEN = Load.parse("pp8:tg4:c2"), Load.parse("pp8:tg4:r1")


def asked(number: int, sent_s: float, *chunks_s: float, tokens: int = 0, **fields: object) -> Asked:
    return Asked(
        number=number,
        sent_s=sent_s,
        chunks_s=chunks_s,
        prompt_tokens=8,
        output_tokens=tokens or len(chunks_s),
        **fields,  # type: ignore[arg-type]
    )


def point(
    *requests: Asked, load: Load = CLOSED, begin_s: float = 0.0, end_s: float = 10.0, saturated: str = ""
) -> Point:
    return Point(load=load, seed=0, asked=requests, begin_s=begin_s, end_s=end_s, end=End.REQUESTS, saturated=saturated)


def test_a_closed_loop_counts_from_when_a_request_is_sent() -> None:
    request = asked(0, 1.0, 1.5, 1.75, 2.5)
    assert (request.ttft_s, request.tpot_s, request.e2e_s) == (0.5, 0.5, 1.5)


def test_an_open_loop_counts_from_when_a_request_is_due() -> None:
    request = asked(0, 1.25, 1.5, 1.75, 2.5, due_s=1.0)
    assert (request.ttft_s, request.tpot_s, request.e2e_s) == (0.5, 0.5, 1.5)
    assert point(request, load=OPEN).send_delays_s == [0.25]
    assert point(asked(0, 1.25, 1.5)).send_delays_s == []


def test_tokens_are_counted_by_the_usage_and_not_by_chunks() -> None:
    # Nine tokens in three chunks: after the first token there are eight.
    assert asked(0, 0.0, 1.0, 2.0, 3.0, tokens=9).tpot_s == 0.25
    assert asked(0, 0.0, 1.0, tokens=1).tpot_s is None
    assert asked(0, 0.0, 1.0, tokens=4).tpot_s == 0.0


def test_percentiles_are_of_the_answered_requests_of_the_sample() -> None:
    measured = point(
        asked(0, 0.0, 9.0, 9.5, counted=False),
        asked(1, 0.0, 1.0, 2.0),
        asked(2, 0.0, 2.0, 2.5, 5.0),
        asked(3, 0.0, 1.5, error="HTTP 500"),
    )
    assert [a.number for a in measured.sample] == [1, 2, 3]
    assert measured.values(Figure.TTFT) == [1.0, 2.0]
    assert measured.values(Figure.TPOT) == [1.0, 1.5]
    assert measured.values(Figure.ITL) == [1.0, 0.5, 2.5]
    assert measured.values(Figure.E2E) == [2.0, 5.0]
    assert measured.percentile(Figure.TTFT, 50) == 1.5
    assert measured.percentile(Figure.ITL, 100) == 2.5
    assert measured.failures == ("HTTP 500",)


def test_throughput_is_of_the_window_and_of_all_requests_in_it() -> None:
    measured = point(
        asked(0, 0.0, 1.0, 2.0, 3.0, tokens=6, counted=False),  # two tokens a chunk; two chunks in the window
        asked(1, 2.0, 2.5, 3.5, tokens=4),  # two tokens a chunk, both
        asked(2, 3.0, 3.9, 4.2, tokens=0, error=CUT, counted=False),  # cut: one chunk of the usual two tokens
        begin_s=1.5,
        end_s=4.0,
    )
    assert measured.output_tps == pytest.approx((4 + 4 + 2) / 2.5)
    assert measured.request_rate == pytest.approx(2 / 2.5)


def test_a_window_has_its_end_and_not_its_begin() -> None:
    edges = [asked(0, 0.0, 1.0, 2.0, 3.0), asked(1, 0.0, 1.0), asked(2, 0.0, 3.0)]
    measured = point(*edges, begin_s=1.0, end_s=3.0)
    assert measured.output_tps == 1.5
    assert measured.request_rate == 1.0
    assert point(*edges, begin_s=2.5, end_s=3.0).output_tps == 4.0  # shorter than a second, too


def test_nothing_in_no_time_is_no_throughput() -> None:
    nothing = point(asked(0, 0.0, error="HTTP 500"), end_s=0.0)
    assert (nothing.output_tps, nothing.request_rate, nothing.percentile(Figure.E2E, 50)) == (None, None, None)


TARGETS = RequestTargets(ttft_s=1.0, tpot_s=0.5, e2e_s=3.0)


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (asked(0, 0.0, 1.0, 1.5), True),
        (asked(0, 0.0, 1.1, 1.5), False),  # first token
        (asked(0, 0.0, 1.0, 1.6), False),  # per token
        (asked(0, 0.0, 1.0, 3.1, tokens=9), False),  # last token
        (asked(0, 0.0, 1.0, tokens=1), True),
        (asked(0, 0.0, 1.0, 1.5, error="HTTP 500"), False),
        (asked(0, 0.5, 1.0, 1.5, due_s=0.0), True),
        (asked(0, 0.5, 1.0, 1.5, due_s=0.1), True),
        (asked(0, 0.9, 1.3, 1.5, due_s=0.2), False),  # it waited in the client
    ],
)
def test_a_request_keeps_all_targets_or_none(request_: Asked, kept: bool) -> None:
    assert request_.keeps(TARGETS) is kept


def test_goodput_is_the_rate_of_the_requests_that_keep_their_targets() -> None:
    good, late = asked(0, 0.0, 1.0, 1.5), asked(1, 0.0, 2.0, 2.5)
    measured = point(good, late, good, good)
    assert (measured.attainment(TARGETS).kept, measured.attainment(TARGETS).of) == (3, 4)
    assert measured.request_rate == 0.4
    assert measured.goodput(TARGETS) == pytest.approx(0.3)


def test_a_saturated_point_has_no_percentiles_and_no_goodput() -> None:
    measured = point(asked(0, 0.0, 1.0, 1.5), asked(1, 0.0, error=CUT), load=OPEN, saturated="requests pile up")
    assert [measured.percentile(figure, 50) for figure in Figure] == [None] * 4
    assert measured.goodput(TARGETS) is None
    assert measured.output_tps == 0.2
    assert measured.failures == ()
    assert point(asked(0, 0.0, error=CUT), asked(1, 0.0, error="HTTP 500")).failures == (CUT, "HTTP 500")
    refused = point(asked(0, 0.0, error=CUT), asked(1, 0.0, error="HTTP 429"), load=OPEN, saturated="it refuses")
    assert refused.failures == ("HTTP 429",)


def test_what_a_cache_answered_is_told_as_a_share_of_the_prompt_tokens() -> None:
    measured = point(asked(0, 0.0, 1.0, cached_tokens=4), asked(1, 0.0, 1.0), asked(2, 0.0, 1.0, counted=False))
    assert measured.cached_share == 0.25
    assert point(asked(0, 0.0, error="HTTP 500")).cached_share == 0.0


times = st.floats(0, 1e5).map(lambda value: round(value, 5))
requests = st.builds(
    Asked,
    number=st.integers(0, 1000),
    due_s=st.none() | times,
    sent_s=times,
    chunks_s=st.lists(times, max_size=5).map(lambda chunks: tuple(sorted(chunks))),
    prompt_tokens=st.integers(1, 9),
    output_tokens=st.integers(0, 9),
    error=st.sampled_from(["", "HTTP 500"]),
    counted=st.booleans(),
)


@given(st.lists(requests, max_size=4), st.none() | st.just(TARGETS), st.sampled_from(End))
def test_a_point_is_read_as_it_was_written(sent: list[Asked], targets: RequestTargets | None, end: End) -> None:
    made = Point(
        load=OPEN, seed=3, asked=tuple(sent), begin_s=1.0, end_s=2.0, end=end, targets=targets, foreign_share=0.01
    )
    assert from_plain(Point, json.loads(json.dumps(to_plain(made)))) == made


def test_targets_are_told_and_checked() -> None:
    assert str(TARGETS) == "TTFT <= 1 s, TPOT <= 0.5 s, E2E <= 3 s for 95 % of requests"
    assert not RequestTargets()
    with pytest.raises(UsageError, match="needs a target of more than 0 s for tpot; found 0"):
        RequestTargets(tpot_s=0.0)
    for share in (0.0, 1.0):
        with pytest.raises(UsageError, match=f"needs a share of requests between 0 and 1; found {share:g}"):
            RequestTargets(share=share)
