"""What a host recorded of served loads."""

import pytest

from benchmarks.served.cells import Cell, cells_of
from benchmarks.served.recorded import Recorded, of_cache
from calibration.cache.cache import Cache
from tests.benchmarks.served.planted import plant
from tests.selector.answering import CT2, HOST, KEY, SDPA
from tests.selector.launches import rounds


@pytest.fixture
def recorded(cache: Cache) -> Recorded:
    """What HOST recorded, its static batches included: there CT2 is five times as fast as SDPA."""
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    plant(cache)
    [one] = of_cache(cache, host=HOST)
    return one


@pytest.fixture
def cells(recorded: Recorded) -> dict[tuple[str, int], Cell]:
    return {(cell.precision, cell.load.streams): cell for cell in cells_of(recorded)}
