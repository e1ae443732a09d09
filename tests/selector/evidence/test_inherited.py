"""What another host measured, and how far launches on both hosts say that it holds here."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.measurement import Identity
from selector.answer import Selection, Source
from selector.context import Context
from selector.screens.select import why
from selector.selection import choose
from tests.selector.answering import EAGER, HOST, KEY, MODEL, SDPA
from tests.selector.launches import rounds

THERE = "b" * 12
OTHER_MODELS = tuple(f"{number:012x}" for number in range(8))


def key(fingerprint: str, host: str) -> Identity:
    return replace(KEY, fingerprint=fingerprint, host=host)


def fleet(cache: Cache, times: Mapping[str, float], *, checked: int) -> None:
    """The model and eight others on the other host; so many of them here, each candidate so many times as slow."""
    for fingerprint in (KEY.fingerprint, *OTHER_MODELS):
        for label, seconds in ((SDPA, 1.0), (EAGER, 2.0)):
            cache.add(*rounds(label, key(fingerprint, THERE), HOST, (seconds,)))
    for fingerprint in OTHER_MODELS[:checked]:
        for label, seconds in ((SDPA, 1.0), (EAGER, 2.0)):
            cache.add(*rounds(label, key(fingerprint, HOST.identifier), HOST, (seconds * times[label],)))


def answered(cache: Cache) -> Selection:
    with Context() as context:
        selection = choose(MODEL, cache=cache, host=HOST, context=context)
    assert selection.source is Source.TRANSFERRED
    return selection


def test_a_host_that_is_like_the_other_inherits_its_answers(cache: Cache) -> None:
    fleet(cache, {SDPA: 1.01, EAGER: 1.01}, checked=4)
    selection = answered(cache)
    sentence = f"transferred from host {THERE}, verified on 4 of 9 models: here they take 1.010 of the time there"
    assert why(selection)[1].startswith(f"  {sentence}, where up to 1.")
    told = selection.to_json()["inherited"]
    assert (told["host"], told["verified"], told["models"], told["of"]) == (THERE, True, 4, 9)
    assert told["ratio"] == pytest.approx(1.01, rel=1e-3)
    assert told["turned"] == {}


def test_a_host_that_is_not_like_the_other_is_named_with_its_ratio(cache: Cache) -> None:
    fleet(cache, {SDPA: 1.6, EAGER: 1.6}, checked=8)
    selection = answered(cache)
    sentence = f"transferred from host {THERE}, which is not like this one: 8 of 9 models take 1.600 of the time there"
    assert why(selection)[1].startswith(f"  {sentence}")
    assert selection.to_json()["inherited"]["verified"] is False


def test_an_order_that_is_another_here_is_named(cache: Cache) -> None:
    fleet(cache, {SDPA: 3.0, EAGER: 1.0}, checked=8)
    told = answered(cache).to_json()["inherited"]
    assert not told["verified"]
    assert len(told["turned"]) == 8


def test_nobody_verified_what_was_launched_there_alone(cache: Cache) -> None:
    fleet(cache, {}, checked=0)
    selection = answered(cache)
    assert why(selection)[1] == (
        f"  transferred from host {THERE}; nothing was launched on both, so nobody verified it"
    )
    assert selection.to_json()["inherited"] == {
        "host": THERE, "verified": False, "models": 0, "of": 9, "ratio": None, "limit": None, "turned": {},
    }  # fmt: skip


def test_what_was_measured_here_is_inherited_from_nobody(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, key(KEY.fingerprint, THERE), HOST, (1.0,)))
    with Context() as context:
        selection = choose(MODEL, cache=cache, host=HOST, context=context)
    assert selection.to_json()["inherited"] is None


def test_another_size_is_no_answer_that_is_inherited(cache: Cache) -> None:
    cache.add(*rounds(SDPA, key(OTHER_MODELS[0], THERE), HOST, (1.0,)))
    with Context() as context:
        assert choose(MODEL, cache=cache, host=HOST, context=context).inherited() is None
