"""What a server that adapts says."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from selector.serve.adapt import words
from selector.serve.adapt.decide import NoRoom, NotMade, Once, Ready, Switch, TooFew, Unfit
from selector.serve.adapt.gain import Better, Unsure, gain_of
from tests.selector.answering import CT2, SDPA
from tests.selector.serve.adapt.making import LOAD, behind, came, prepared, under_load, weighed


@pytest.fixture
def switch(cache: Cache) -> Switch:
    found = weighed(cache, [*under_load(SDPA, 240.0), *under_load(CT2, 80.0)], objective="throughput")
    better = gain_of(found, CT2)
    assert isinstance(better, Better)
    ready = Ready(prepared=prepared(found.selection), behind=behind(), beside=True, made_of="today")
    return Switch(better=replace(better, times=3.0, half=0.25), ready=ready)


def test_before_a_switch_it_says_what_came_what_is_gained_and_what_memory_it_takes(switch: Switch) -> None:
    lines = words.begins(switch, came(1200), CT2)
    assert lines[0] == "came    1,200 requests: 64 prompt tokens and 32 new ones (medians), 8.00 at once"
    assert lines[1].startswith(
        f"better  {SDPA} is 3.00 ± 0.25 times faster than {CT2} for {LOAD}, measured here as served "
    )
    assert lines[1].endswith(" (6 launches, 2 candidates)")
    assert lines[2] == f"memory  about 0.9 GiB of the 20.0 GiB that are free beside {CT2}, which answers meanwhile"


def test_without_memory_for_both_it_says_that_requests_will_wait(switch: Switch) -> None:
    after = replace(switch, ready=replace(switch.ready, beside=False))
    assert words.begins(after, came(1), CT2)[2] == (
        f"memory  about 0.9 GiB of the 20.0 GiB that are free without {CT2}, which ends first when its requests have"
        " ended; new ones wait, each 30 s at most"
    )


def test_who_meets_targets_is_told_by_them(switch: Switch) -> None:
    assert words.begins(replace(switch, better=replace(switch.better, times=0.7)), came(1), CT2)[1].startswith(
        f"better  {SDPA} meets "
    )


def test_from_the_switch_on_it_says_how_it_is_served(switch: Switch) -> None:
    assert words.done(switch.ready, CT2, 3.2, 2) == [
        f"switched  loaded in 3.20 s: {SDPA} answers from now on, 2 threads; {CT2} ends after 2 requests",
        "requests  Hugging Face transformers answers 8 at once: a new one joins those that run; more wait",
    ]
    assert words.done(switch.ready, CT2, 3.2, 0)[0].endswith(f"{SDPA} answers from now on, 2 threads")


def test_one_that_failed_is_told_with_what_it_printed() -> None:
    assert words.failed(SDPA, "killed by SIGKILL\nits log", CT2) == (
        f"{SDPA} did not come up: killed by SIGKILL; {CT2} goes on. It is tried again when its versions, its conversion"
        " or its measurements have changed\n  its log"
    )


@pytest.mark.parametrize(
    ("stay", "sentence"),
    [
        (
            Unsure(best=SDPA, why="nobody knows", command="autobackend calibrate m"),
            (
                f"{SDPA} may be better than {CT2} for what came, which is not sure: nobody knows. Measure it while this"
                " server rests: autobackend calibrate m"
            ),
        ),
        (
            NotMade(best=SDPA, command="autobackend serve m"),
            (
                f"{SDPA} is better than {CT2} for what came, and the model is not converted for it. Start this server"
                " again so: autobackend serve m"
            ),
        ),
        (NoRoom(best=SDPA, why="x"), f"{SDPA} is better than {CT2} for what came, and does not fit: x"),
        (Unfit(best=SDPA, why="x"), f"{SDPA} is better than {CT2} for what came, and cannot take its place: x"),
        (TooFew(requests=1, needed=100), ""),
        (Once(best=SDPA), ""),
    ],
)
def test_what_the_user_can_do_is_said(stay: Unsure | NotMade | NoRoom | Unfit | TooFew | Once, sentence: str) -> None:
    assert words.advice(stay, CT2) == sentence
