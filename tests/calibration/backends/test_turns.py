"""Computations that take turns: what all need is fetched once, and one that fails ends the others."""

import threading
from collections.abc import Callable

import pytest

from calibration.backends.transformers.turns import Turns


@pytest.fixture
def fetched() -> list[str]:
    return []


def reader(turns: Turns[str], things: list[str], log: list[str], name: str) -> Callable[[], str]:
    def read() -> str:
        for thing in things:
            turns.need(thing)
            log.append(f"{name}{thing}")
        return name.upper()

    return read


def test_what_all_need_is_fetched_once_for_all(fetched: list[str]) -> None:
    turns, log = Turns(fetched.append), list[str]()
    layers = ["embed", "1", "2", "head"]
    made = turns.take([reader(turns, layers * 2, log, name) for name in "abc"])
    assert (made, fetched) == (["A", "B", "C"], layers * 2)
    assert log == [f"{name}{layer}" for layer in layers * 2 for name in "abc"]


def test_who_needs_another_thing_waits_for_it(fetched: list[str]) -> None:
    turns, log = Turns(fetched.append), list[str]()
    turns.take([reader(turns, ["1", "2"], log, "a"), reader(turns, ["2"], log, "b"), reader(turns, [], log, "c")])
    assert (fetched, log) == (["1", "2"], ["a1", "a2", "b2"])


def test_one_alone_needs_no_turn(fetched: list[str]) -> None:
    turns = Turns(fetched.append)
    for thing in ("1", "1", "2"):
        turns.need(thing)
    assert fetched == ["1", "2"]


def test_a_failure_is_raised_and_ends_the_others(fetched: list[str]) -> None:
    turns, unwound = Turns(fetched.append), list[str]()
    before = threading.active_count()

    def patient() -> None:
        try:
            turns.need("1")
            turns.need("2")
        finally:
            unwound.append("patient")

    def hasty() -> None:
        turns.need("1")
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"):
        turns.take([patient, hasty])
    assert (unwound, fetched, threading.active_count()) == (["patient"], ["1"], before)


def test_what_cannot_be_fetched_is_raised(fetched: list[str]) -> None:
    def fetch(thing: str) -> None:
        raise OSError(f"{thing} cannot be read")

    turns = Turns(fetch)
    with pytest.raises(OSError, match="1 cannot be read"):
        turns.take([lambda: turns.need("1"), lambda: turns.need("1")])
