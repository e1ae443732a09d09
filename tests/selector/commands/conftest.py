"""This host, and a cache with launches of it."""

from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.measurement import FailureKind
from selector.context import DEFAULT
from selector.evidence.identity import identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from tests.selector.commands.calling import EAGER, MODEL, SDPA
from tests.selector.launches import failure, rounds


@pytest.fixture(scope="module")
def host() -> HostSpec:
    return DEFAULT.host()


@pytest.fixture
def path(tmp_path: Path, host: HostSpec) -> Path:
    """A cache with launches of this very host: sdpa twice as fast as eager, and a failure."""
    key = identity(ModelSpec.read(MODEL), host)
    place = tmp_path / "cache.db"
    with Cache.open(place) as cache:
        cache.add(
            *rounds(SDPA, key, host, (1.0, 1.0, 1.0)),
            *rounds(EAGER, key, host, (2.0, 2.0, 2.0)),
            failure("ctranslate2:float32", key, host, kind=FailureKind.TIMED_OUT, message="no answer within 900 s"),
        )
    return place
