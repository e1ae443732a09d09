"""Launches of served loads whose figures can be checked by hand."""

import pytest

from benchmarks.served.task import levels
from calibration.cache.cache import Cache
from tests.selector.answering import CT2, EAGER, HOST, KEY, SDPA
from tests.selector.launches import LOSSY, RIGHT, served

LENGTHS = "pp64:tg32"
C8, C4, C1 = levels(LENGTHS, (1, 4, 8))
INT8 = "ctranslate2:int8"
EQUAL, ALLOWED = "equal precision", "lossy ones allowed"
TPS = {
    CT2: ((80.0, 90.0, 100.0), (80.0, 110.0, 100.0)),
    SDPA: ((50.0, 100.0, 160.0), (50.0, 100.0, 160.0)),
    EAGER: ((20.0, 20.0, 20.0),),
    INT8: ((100.0, 120.0, 125.0), (100.0, 120.0, 125.0)),
}
"""Candidate: tokens a second at one, four and eight streams, in the first round and in the second."""


def plant(cache: Cache, only: int = 0) -> None:
    """The launches of TPS, or those of one round."""
    for label, by_round in TPS.items():
        for number, reached in enumerate(by_round, start=1):
            if only in (0, number):
                tps = dict(zip((C1.label, C4.label, C8.label), reached, strict=True))
                agreement = LOSSY if label == INT8 else RIGHT
                cache.add(served(label, KEY, HOST, tps, round_=number, ttft_s=0.02, agreement=agreement))


def close(*values: float) -> object:
    """A point's tokens a second are those of its window: exact to a thousandth."""
    return pytest.approx(values, rel=2e-3)
