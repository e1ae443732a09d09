"""decide(): by what came, by the clock, and by what can be started."""

from dataclasses import dataclass, field, replace

import pytest

from calibration.cache.cache import Cache
from calibration.load.load import Load
from selector.answer import Selection
from selector.serve.adapt.decide import (
    FailedBefore,
    NoRoom,
    NotMade,
    Once,
    Ready,
    Switch,
    TooFew,
    TooSoon,
    Unfit,
    decide,
)
from selector.serve.adapt.gain import Better, NoGain, Unsure, Weighed
from selector.serve.adapt.pace import Pace, State
from tests.selector.answering import CT2, EAGER, SDPA
from tests.selector.serve.adapt.making import LOAD, behind, came, prepared, under_load, weighed

PACE = Pace(every_s=300.0, requests=100)
STATE = State(running=CT2, since_s=0.0)


@dataclass
class Fixed:
    """A world that says what it was told to, and remembers what it was asked."""

    weighed: Weighed
    ready: Ready | NotMade | NoRoom | Unfit
    asked: list[str] = field(default_factory=list)

    def weigh(self, load: Load) -> Weighed:
        self.asked.append(load.label)
        return self.weighed

    def make_ready(self, selection: Selection) -> Ready | NotMade | NoRoom | Unfit:
        self.asked.append(selection.candidate.label)
        return self.ready


@pytest.fixture
def sure(cache: Cache) -> Fixed:
    """SDPA is three times as fast as CT2, and both fit."""
    found = weighed(cache, [*under_load(SDPA, 240.0), *under_load(CT2, 80.0)])
    ready = Ready(prepared=prepared(found.selection), behind=behind(), beside=True, made_of="today")
    return Fixed(found, ready)


def test_too_few_requests_say_nothing(sure: Fixed) -> None:
    assert decide(STATE, came(99), sure, now_s=0.0, pace=PACE) == TooFew(requests=99, needed=100)
    assert decide(STATE, None, sure, now_s=0.0, pace=PACE) == TooFew(requests=0, needed=100)
    assert sure.asked == [], "nothing is worked out for them"


def test_the_choice_stays(sure: Fixed) -> None:
    state = replace(STATE, running=SDPA)
    assert decide(state, came(100), sure, now_s=0.0, pace=PACE) == NoGain(best=SDPA)
    assert sure.asked == [LOAD], "nothing is made ready for it"


def test_a_gain_within_the_band_is_none(cache: Cache) -> None:
    found = weighed(cache, [*under_load(SDPA, 100.0), *under_load(EAGER, 102.0)])
    best = found.selection.candidate.label
    world = Fixed(found, NoRoom(best="", why=""))
    state = State(running=EAGER if best == SDPA else SDPA, since_s=0.0)
    assert decide(state, came(100), world, now_s=0.0, pace=PACE) == NoGain(best=best)


def test_a_gain_that_is_not_sure_is_told_with_the_command_that_measures_it(cache: Cache) -> None:
    world = Fixed(weighed(cache, under_load(SDPA, 240.0)), NoRoom(best="", why=""))
    found = decide(STATE, came(100), world, now_s=0.0, pace=PACE)
    assert isinstance(found, Unsure)
    assert (found.best, found.why) == (SDPA, f"{CT2} was not measured for {LOAD} with today's versions")


def test_a_sure_gain_must_be_so_twice(sure: Fixed) -> None:
    assert decide(STATE, came(100), sure, now_s=0.0, pace=PACE) == Once(best=SDPA)
    again = decide(replace(STATE, sure_of=SDPA), came(100), sure, now_s=300.0, pace=PACE)
    assert isinstance(again, Switch)
    assert isinstance(again.better, Better)
    assert (again.better.best, again.ready) == (SDPA, sure.ready)
    other = decide(replace(STATE, sure_of=EAGER), came(100), sure, now_s=300.0, pace=PACE)
    assert other == Once(best=SDPA), "another one was sure at the last look"


def test_after_a_switch_it_stays_for_a_while_whatever_came(sure: Fixed) -> None:
    state = State(running=CT2, since_s=1000.0, switches=1, sure_of=SDPA)
    assert decide(state, came(9999), sure, now_s=1000.0, pace=PACE) == TooSoon(left_s=1800.0)
    assert decide(state, came(9999), sure, now_s=2799.0, pace=PACE) == TooSoon(left_s=1.0)
    assert sure.asked == []
    assert isinstance(decide(state, came(9999), sure, now_s=2800.0, pace=PACE), Switch)
    twice = replace(state, switches=2)
    assert decide(twice, came(9999), sure, now_s=2800.0, pace=PACE) == TooSoon(left_s=1800.0)


@pytest.mark.parametrize(
    "why_not",
    [
        NotMade(best=SDPA, command="autobackend serve m --backends transformers:sdpa"),
        NoRoom(best=SDPA, why="transformers:sdpa has no room for 8 requests of 512 tokens at once"),
        Unfit(best=SDPA, why="it takes no `seed`, which this server has answered"),
    ],
)
def test_what_cannot_be_started_is_said_and_not_started(sure: Fixed, why_not: NotMade | NoRoom | Unfit) -> None:
    state = replace(STATE, sure_of=SDPA)
    assert decide(state, came(100), replace(sure, ready=why_not), now_s=0.0, pace=PACE) == why_not


def test_without_memory_for_both_it_begins_when_the_other_has_ended(sure: Fixed) -> None:
    assert isinstance(sure.ready, Ready)
    after = replace(sure, ready=replace(sure.ready, beside=False))
    found = decide(replace(STATE, sure_of=SDPA), came(100), after, now_s=0.0, pace=PACE)
    assert isinstance(found, Switch)
    assert not found.ready.beside


def test_a_candidate_that_failed_is_not_tried_again_before_something_changed(sure: Fixed) -> None:
    state = replace(STATE, sure_of=SDPA, failed={SDPA: "today"})
    for now_s in (0.0, 1e9):
        assert decide(state, came(100), sure, now_s=now_s, pace=PACE) == FailedBefore(best=SDPA)
    assert isinstance(sure.ready, Ready)
    changed = replace(sure, ready=replace(sure.ready, made_of="tomorrow"))
    assert isinstance(decide(state, came(100), changed, now_s=0.0, pace=PACE), Switch)
