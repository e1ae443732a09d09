"""When a load counts, ends and is given up: decided from times alone, and tried on simulated servers."""

import heapq
import random
from statistics import mean

import pytest

from calibration.load.client.ask import Answer
from calibration.load.client.course import JUDGED_LEAST, Course, PileUp
from calibration.load.sample import End, RequestTargets

TARGETS = RequestTargets(ttft_s=1.0)


def request(number: int = 0, due_s: float | None = None, sent_s: float = 0.0) -> Answer:
    return Answer(number=number, prompt_tokens=1, output_tokens=2, due_s=due_s, sent_s=sent_s)


def answer(asked: Answer, ttft_s: float) -> None:
    begun_s = asked.sent_s if asked.due_s is None else asked.due_s
    asked.chunks_s = [begun_s + ttft_s, begun_s + ttft_s + 0.1]
    asked.usage = {"completion_tokens": 2}
    asked.end(whole=True)


def test_requests_count_from_the_opening_until_there_are_enough() -> None:
    course = Course(requests=2, budget_s=100)
    sent = [request(number) for number in range(4)]
    course.sent(sent[0], 0.0, 0)
    course.open(1.0)
    course.open(1.5)
    for place, one in enumerate(sent[1:]):
        course.sent(one, 2.0 + place, 0)
    assert [one.counted for one in sent] == [False, True, True, False]
    assert (course.opened_s, course.end, course.over) == (1.0, End.REQUESTS, False)
    answer(sent[1], 0.5)
    answer(sent[2], 0.5)
    assert course.over


def test_a_budget_closes_the_sample_and_what_was_sent_is_waited_for() -> None:
    course = Course(requests=100, budget_s=10)
    course.open(0.0)
    before, after = request(0), request(1)
    course.sent(before, 9.9, 0)
    course.look(9.95)
    assert ended(course) is None
    course.sent(after, 10.0, 0)
    assert (before.counted, after.counted) == (True, False)
    assert (ended(course), course.over) == (End.BUDGET, False)
    answer(before, 5.0)
    assert course.over


def test_a_budget_that_ends_before_the_opening_ends_all() -> None:
    course = Course(requests=100, budget_s=10)
    course.look(9.0)
    assert not course.over
    course.look(10.0)
    assert (course.over, course.sample) == (True, [])


def ended(course: Course) -> End | None:
    """Asked anew each time."""
    return course.end


def opened(count: int, **fields: object) -> tuple[Course, list[Answer]]:
    """An open loop to which one request a second has come."""
    course = Course(requests=1000, budget_s=1000, targets=TARGETS, **fields)  # type: ignore[arg-type]
    course.open(0.0)
    sent = [request(number, due_s=float(number)) for number in range(count)]
    for one in sent:
        course.sent(one, one.due_s or 0.0, 1)
    return course, sent


def test_it_ends_as_soon_as_the_interval_is_above_the_target() -> None:
    course, sent = opened(80)
    for one in sent[:72]:
        answer(one, 0.5)
    course.look(72.0)
    assert ended(course) is None
    answer(sent[72], 0.5)
    course.look(73.0)
    assert ended(course) is End.CLEAR
    assert len(course.sample) == 73
    assert [one.counted for one in sent] == [True] * 73 + [False] * 7
    assert course.over


def test_only_requests_up_to_the_first_undecided_one_are_judged() -> None:
    course, sent = opened(80)
    for one in sent[1:]:
        answer(one, 0.5)
    assert course.attained(0.9).of == 0
    assert (course.attained(1.1).kept, course.attained(1.1).of) == (79, 80)  # its first token is late for certain


def test_it_stops_as_soon_as_the_interval_is_below_the_target() -> None:
    course, sent = opened(30)
    for one in sent[: JUDGED_LEAST - 1]:
        answer(one, 2.0)
        course.answered(one)
    course.look(20.0)
    assert ended(course) is None
    answer(sent[JUDGED_LEAST - 1], 0.5)
    course.look(20.5)
    assert course.saturated == ("0.05 (0.01 to 0.24) of 20 requests kept to TTFT <= 1 s for 95 % of requests")
    assert (course.end, course.over) == (End.SATURATED, True)


def test_a_closed_loop_is_never_stopped_for_its_targets() -> None:
    course = Course(requests=1000, budget_s=1000, targets=TARGETS)
    course.open(0.0)
    for number in range(200):
        one = request(number, sent_s=float(number))
        course.sent(one, float(number), 1)
        answer(one, 5.0 if number < 100 else 0.1)
    course.look(300.0)
    assert (course.end, course.saturated) == (None, "")


def simulated(load: float, seed: int, *, slots: int = 4, seconds: float = 240.0, known: bool = False) -> str:
    """A server that works on `slots` requests for 4 s each on average, and is asked `load` times as often as it can.

    Returns:
        why the load is given up; empty where it is not.
    """
    draw = random.Random(f"{load} {seed}")
    pile = PileUp(slots=slots if known else 0)
    free, ends, now_s = [0.0] * slots, list[float](), 0.0
    told: list[tuple[float, float, float]] = []
    while now_s < seconds:
        now_s += draw.expovariate(load * slots / 4.0)
        ends = [end for end in ends if end > now_s]
        while told and told[0][0] <= now_s:
            _, due_s, ttft_s = heapq.heappop(told)
            pile.began(due_s, ttft_s)
        pile.sent(now_s, len(ends))
        begin = max(heapq.heappop(free), now_s)
        end = begin + max(0.4, draw.gauss(4.0, 1.2))
        heapq.heappush(free, end)
        ends.append(end)
        heapq.heappush(told, (end, now_s, begin - now_s + 0.3 * draw.lognormvariate(0, 0.15)))
        if reason := pile.reason(now_s):
            return reason
    return ""


@pytest.mark.parametrize(("load", "share"), [(0.3, 0.0), (0.6, 0.0), (0.8, 0.02)])
def test_a_server_that_keeps_up_is_seldom_given_up(load: float, share: float) -> None:
    assert mean(bool(simulated(load, seed)) for seed in range(100)) <= share


@pytest.mark.parametrize(("load", "share"), [(1.2, 0.8), (1.5, 0.95), (2.0, 1.0)])
def test_a_server_that_does_not_keep_up_is_given_up(load: float, share: float) -> None:
    assert mean(bool(simulated(load, seed)) for seed in range(50)) >= share
    assert mean(bool(simulated(load, seed, known=True)) for seed in range(50)) >= share


def test_in_flight_beyond_twice_the_slots_is_seen_where_no_answer_comes_at_all() -> None:
    known, unknown = PileUp(slots=2), PileUp()
    reasons = []
    for at_s in range(60):
        for pile in (known, unknown):
            pile.sent(float(at_s), at_s)
        reasons.append(known.reason(float(at_s)))
    assert reasons[34] == "" != reasons[35]
    assert reasons[35] == "requests pile up: 35 in flight after 35 s, for 2 slots"
    assert unknown.reason(59.0) == ""


def test_nothing_is_said_before_half_a_minute() -> None:
    pile = PileUp(slots=1)
    for tenth in range(299):
        pile.sent(tenth / 10, tenth)
        pile.began(tenth / 10, float(tenth))
        assert pile.reason(tenth / 10) == ""


@pytest.mark.parametrize(
    ("ttft_rises", "reason"), [(True, "requests pile up: 49 in flight after 49 s, and TTFT rises"), (False, "")]
)
def test_a_load_is_stopped_when_its_requests_pile_up(ttft_rises: bool, reason: str) -> None:
    """Both must rise: more in flight alone may be longer answers, later first tokens alone longer prompts."""
    course = Course(requests=1000, budget_s=1000)
    course.open(0.0)
    for second in range(60):
        one = request(second, due_s=float(second))
        course.sent(one, float(second), second)
        answer(one, 0.1 * second if ttft_rises else 0.1)
        course.answered(one)
        course.look(float(second))
        if second < 30:
            assert not course.over
    assert course.saturated == reason
    # It is seen as soon as there are as many requests as one may judge by.
    assert len(course.sample) == (50 if reason else 60)


def test_requests_that_do_not_count_do_not_pile_up() -> None:
    course = Course(requests=1000, budget_s=1000, slots=1)
    for second in range(60):  # it never opened
        course.sent(request(second, due_s=float(second)), float(second), second)
        course.look(float(second))
    assert (course.saturated, course.sample) == ("", [])


def test_slots_that_stay_taken_stop_a_load() -> None:
    course = Course(requests=1000, budget_s=1000, slots=4)
    course.open(100.0)
    for second in range(100, 141):
        course.sent(request(second, due_s=float(second)), float(second), second - 90)
        course.look(float(second))
    assert course.saturated == "requests pile up: 40 in flight after 130 s, for 4 slots"


def test_a_trace_is_not_ended_by_what_its_first_requests_keep_to() -> None:
    for ttft_s in (0.5, 2.0):
        course, sent = opened(80, steady=False)
        for one in sent:
            answer(one, ttft_s)
        course.look(80.0)
        assert (ended(course), course.saturated) == (None, "")


def test_a_trace_in_which_more_comes_towards_the_end_is_not_saturated() -> None:
    rising, taken = PileUp(steady=False), PileUp(slots=4, steady=False)
    for second in range(60):
        rising.sent(float(second), second)
        rising.began(float(second), 0.1 * second)
        taken.sent(float(second), second)
    assert rising.reason(59.0) == ""
    assert taken.reason(59.0) == "requests pile up: 59 in flight after 59 s, for 4 slots"
