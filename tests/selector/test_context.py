"""What select() remembers from one call to the next, and for how long."""

import json
from collections.abc import Hashable, Iterator
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from selector.answer import Source
from selector.context import DEFAULT
from selector.selection import choose
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, SPEC
from tests.selector.launches import rounds


class Counting(Cache):
    """A cache that counts how often it is asked whether it has changed: with PostgreSQL an exchange each."""

    asked = 0

    def token(self) -> Hashable:
        self.asked += 1
        return super().token()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "cache.db")
    url: str = request.getfixturevalue("database")
    return url


@pytest.fixture
def cache(place: str) -> Iterator[Cache]:
    with Cache.open(place) as opened:
        yield opened


def test_an_answer_is_remembered_until_the_cache_changes(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
    first = choose(MODEL, cache=cache, host=HOST)
    assert choose(MODEL, cache=cache, host=HOST) is first
    cache.add(*rounds(CT2, KEY, HOST, (0.5,)))
    assert choose(MODEL, cache=cache, host=HOST).candidate.label == CT2


def test_a_launch_of_another_process_changes_the_answer(cache: Cache, place: str) -> None:
    assert choose(MODEL, cache=cache, host=HOST).source is Source.PREDICTED
    with Cache.open(place) as other:
        other.add(*rounds(EAGER, KEY, HOST, (1.0,)))
    assert choose(MODEL, cache=cache, host=HOST).candidate.label == EAGER


def test_the_cache_is_asked_three_times_for_another_workload_and_once_for_the_same(place: str) -> None:
    with Counting.open(place) as cache:
        assert isinstance(cache, Counting)
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
        counts = []
        for workload in ("pp512:tg128:b1", "pp256:tg64:b1", "pp256:tg64:b1"):
            before = cache.asked
            choose(MODEL, cache=cache, host=HOST, workload=workload)
            counts.append(cache.asked - before)
    assert counts == [3, 3, 1]


def test_a_changed_model_is_read_anew(tmp_path: Path, cache: Cache) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = json.loads((SPEC.folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    assert DEFAULT.model(folder) is DEFAULT.model(folder)
    before = choose(folder, cache=cache, host=HOST).spec.layers
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    assert (before, choose(folder, cache=cache, host=HOST).spec.layers) == (30, 7)


def test_caches_by_path_and_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.db"
    with Cache.open(path) as opened:
        opened.add(*rounds(EAGER, KEY, HOST, (1.0,)))
    monkeypatch.setenv("AUTOBACKEND_CACHE", str(tmp_path / "none.db"))
    assert choose(MODEL, host=HOST).source is Source.PREDICTED
    assert choose(MODEL, cache=path, host=HOST).candidate.label == EAGER
    monkeypatch.setenv("AUTOBACKEND_CACHE", str(path))
    assert choose(MODEL, host=HOST).candidate.label == EAGER


def test_the_host_is_looked_at_once() -> None:
    assert DEFAULT.host() is DEFAULT.host()
