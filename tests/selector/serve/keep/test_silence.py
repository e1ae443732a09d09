"""For how long an engine may give nothing: by what was measured here, else as predicted, else a guess; or as told."""

import pytest

from calibration.cache.cache import Cache
from selector.planning.room import Room
from selector.serve.keep.silence import SLACK, UNKNOWN_BYTES_S, UNKNOWN_FLOPS, silence_of
from selector.serve.keep.watch import LEAST_S, Silence
from tests.selector.answering import ARM, HOST, KEY, SDPA, SPEC, answer
from tests.selector.launches import measurement

ROOM = Room(slots=4, context_tokens=2048, needed_bytes=1 << 30, free_bytes=4 << 30)


def test_what_was_measured_tells(cache: Cache) -> None:
    selection = answer(cache, measurement(SDPA, KEY, HOST), backend=SDPA, workload="pp512:tg128:b1")
    silence = silence_of(selection, ROOM, comes_whole=True)
    # 10 ms and 2 ms a token; a step of 22 ms.
    assert silence.read_s == pytest.approx(SLACK * (0.010 + 0.002 * 512) / 512)
    assert silence.write_s == pytest.approx(SLACK * 0.022)
    assert (silence.least_s, silence.slots, silence.context_tokens) == (LEAST_S, 4, 2048)
    assert silence_of(selection, ROOM, comes_whole=False).write_s == 0.0


def test_else_what_is_predicted(cache: Cache) -> None:
    selection = answer(cache, backend=SDPA, workload="pp512:tg128:b2")
    assert selection.expected is not None
    silence = silence_of(selection, ROOM, comes_whole=True)
    assert silence.read_s == pytest.approx(SLACK * selection.expected.ttft_s / 1024)
    assert silence.write_s == pytest.approx(SLACK * selection.expected.tpot_s)


def test_else_a_guess_by_the_size_of_the_model(cache: Cache) -> None:
    selection = answer(cache, backend=SDPA, host=ARM)
    assert (selection.ranking, selection.expected) == ((), None)
    silence = silence_of(selection, ROOM, comes_whole=True)
    assert silence.read_s == pytest.approx(SLACK * 2 * SPEC.parameters / UNKNOWN_FLOPS)
    assert silence.write_s == pytest.approx(SLACK * 4 * SPEC.parameters / UNKNOWN_BYTES_S)


def test_what_the_user_says_holds_for_every_prompt(cache: Cache) -> None:
    selection = answer(cache, backend=SDPA)
    assert silence_of(selection, ROOM, comes_whole=True, hung_after_s=3.0) == Silence(least_s=3.0)
