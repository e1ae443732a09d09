"""An objective is one member that says how candidates are valued by it."""

import pytest

from calibration.cache.cache import Cache
from calibration.errors import UsageError
from selector.demand.objective import Objective
from selector.evidence.comparison import ratio
from selector.screens.text import amount
from selector.selection import choose
from tests.selector.answering import CT2, HOST, KEY, MODEL, SDPA
from tests.selector.launches import rounds


def test_a_member_is_its_word() -> None:
    assert [f"{objective}" for objective in Objective] == ["latency", "ttft", "throughput", "goodput", "memory"]
    assert Objective.parse("memory") is Objective.MEMORY
    with pytest.raises(UsageError) as error:
        Objective.parse("speed")
    assert (error.value.message, error.value.mend) == (
        "unknown objective 'speed'",
        "known are: latency, ttft, throughput, goodput, memory",
    )


def test_candidates_are_valued_and_compared_by_it(cache: Cache) -> None:
    """Half the prefill, three times the decode step and a quarter of the memory."""
    cache.add(
        *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0)),
        *rounds(CT2, KEY, HOST, (0.5, 0.5, 0.5), decode=3.0, memory=1 << 28),
    )
    ranking = choose(MODEL, cache=cache, host=HOST, workload="pp100:tg11:b2").ranking
    sdpa, ctranslate2 = sorted(ranking, key=lambda ranked: ranked.candidate.label, reverse=True)
    # Prefill 10 ms + 2 ms x 200; a step 24 ms, ten of them.
    assert [objective.of(sdpa) for objective in Objective] == pytest.approx([0.650, 0.410, 0.650 / 22, 0.325, 1 << 30])
    expected = [0.925, 0.205, 0.925 / 22, 0.925 / 2, 1 << 28]
    assert [objective.of(ctranslate2) for objective in Objective] == pytest.approx(expected)
    # Told: 22 new tokens in 0.650 s.
    told = [amount(sdpa, objective) for objective in Objective]
    assert told == ["650 ms", "410 ms", "33.8 tok/s", "3.08 requests a second", "1.0 GiB"]
    ratios = [ratio(sdpa, ctranslate2, objective).value for objective in Objective]
    assert ratios == pytest.approx([0.650 / 0.925, 2.0, 0.650 / 0.925, 0.650 / 0.925, 4.0])
