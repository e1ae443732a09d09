"""The cache keeps what it is given and answers by key."""

import threading
from dataclasses import replace

import pytest

from calibration.cache.cache import Cache, Health
from calibration.errors import UsageError
from calibration.measurement import Agreement, Outcome, OutputVerdict, from_json, to_json
from tests.calibration.cache.conftest import Run
from tests.calibration.launches import CUT, IDENTITY, KEY, checked, failed, measured, served, unserved


def test_what_goes_in_comes_out(cache: Cache) -> None:
    outcomes: list[Outcome] = [
        measured(1),
        measured(2, prepare_s=None, artifact_bytes=None, gpu_memory_bytes=1 << 40),
        measured(3, agreement=Agreement(verdict=OutputVerdict.UNCHECKED, detail="no reference")),
        failed(4),
        checked(5),
        measured(6, identity=replace(IDENTITY, config="")),
        measured(7, identity=CUT),
    ]
    assert cache.add(*outcomes) == 7
    assert cache.find(**KEY, cut=None) == outcomes
    assert list(cache.all()) == outcomes


def test_what_json_and_a_database_cannot_hold_is_replaced(cache: Cache) -> None:
    infinite = Agreement(verdict=OutputVerdict.WRONG, kl=float("inf"), top1=0.0, detail="never the same token")
    cache.add(measured(1, agreement=infinite), failed(2, log_tail="a\udcffb\0c"), checked(3, agreement=infinite))
    none = replace(infinite, kl=None)
    expected = [measured(1, agreement=none), failed(2, log_tail="a?b\ufffdc"), checked(3, agreement=none)]
    assert list(cache.all()) == expected
    assert from_json(to_json(measured(1, agreement=infinite))) == expected[0]
    assert from_json(to_json(checked(3, agreement=infinite))) == expected[2]


def test_what_was_served_is_found_apart(cache: Cache) -> None:
    """A selection for a batch does not read the raw samples of loads."""
    static: list[Outcome] = [measured(1), failed(3)]
    under_load: list[Outcome] = [served(2), unserved(4)]
    cache.add(*static, *under_load)
    assert cache.find(**KEY) == static
    assert cache.find_served(**KEY, fingerprint=IDENTITY.fingerprint) == under_load
    assert list(cache.all()) == sorted([*static, *under_load], key=lambda o: o.started_at)
    assert cache.check() == Health(rows=4, unreadable={}, damage=())


def test_points_that_are_not_readable_are_left_out(cache: Cache, run: Run) -> None:
    cache.add(served(1), served(2))
    run(f"UPDATE launches SET points = 'nonsense' WHERE run_id = '{served(1).run_id}'")
    assert cache.find_served(**KEY, fingerprint=IDENTITY.fingerprint) == [served(2)]
    assert list(cache.check().unreadable) == [served(1).run_id]


def test_a_sample_that_is_no_number_is_refused_and_nothing_stored(cache: Cache) -> None:
    cell = measured(2).cells[0]
    bad = replace(cell, samples=(replace(cell.samples[0], ttft_s=float("nan")),))
    with pytest.raises(ValueError, match="Out of range float"):
        cache.add(measured(1), measured(2, cells=(bad,)))
    assert list(cache.all()) == []


def test_launches_that_are_known_are_left_alone(cache: Cache) -> None:
    assert cache.add(measured(1), measured(2), measured(1)) == 2
    assert cache.add(measured(2, model="renamed"), measured(3)) == 1
    assert cache.add() == 0
    assert list(cache.all()) == [measured(1), measured(2), measured(3)]


def test_find_asks_for_the_key_and_perhaps_the_size(cache: Cache) -> None:
    larger = replace(IDENTITY, fingerprint="ffffffffffff", host="other")
    others = [
        replace(IDENTITY, architecture="other"),
        replace(IDENTITY, quant="other"),
        replace(IDENTITY, device="other"),
    ]
    cache.add(measured(2), measured(1, identity=larger), *(measured(3 + i, identity=o) for i, o in enumerate(others)))
    assert cache.find(**KEY) == [measured(1, identity=larger), measured(2)]
    assert cache.find(**KEY, fingerprint="ffffffffffff") == [measured(1, identity=larger)]
    assert cache.find(**KEY | {"quant": "awq-4bit-g128"}) == []


def test_find_asks_for_the_whole_model_or_a_depth(cache: Cache) -> None:
    whole, shallow, deeper = measured(1), measured(2, identity=CUT), measured(3, identity=replace(IDENTITY, cut="9/30"))
    cache.add(whole, shallow, deeper)
    assert cache.find(**KEY) == [whole]
    assert cache.find(**KEY, fingerprint=IDENTITY.fingerprint, cut="3/30") == [shallow]
    assert cache.find(**KEY, cut=None) == [whole, shallow, deeper]


def test_find_on_asks_for_the_device_and_hosts_whatever_the_model(cache: Cache) -> None:
    here, there = replace(IDENTITY, host="here"), replace(IDENTITY, host="there", architecture="other", cut="3/30")
    elsewhere, other_device = replace(IDENTITY, host="elsewhere"), replace(IDENTITY, host="here", device="other")
    kept = [measured(1, identity=here), measured(2, identity=there)]
    cache.add(*kept, measured(3, identity=elsewhere), measured(4, identity=other_device), served(5, identity=here))
    assert cache.find_on(device=IDENTITY.device, hosts=("here", "there")) == kept
    assert cache.find_on(device=IDENTITY.device, hosts=("there",)) == kept[1:]
    assert cache.find_on(device=IDENTITY.device, hosts=()) == []


def test_all_filters_by_column_and_age(cache: Cache) -> None:
    cache.add(measured(1), measured(2), failed(3))
    assert list(cache.all(backend="pytorch")) == [failed(3)]
    assert list(cache.all(backend="transformers", older_than=measured(2).started_at)) == [measured(1)]
    with pytest.raises(
        UsageError, match=r"^the cache has no column gpu, size\nknown are: run_id, calibration_id, round"
    ):
        list(cache.all(size=1, gpu="A100"))


def test_the_newest_are_those_that_were_added_last(cache: Cache) -> None:
    assert cache.newest(3) == []
    launches = [replace(measured(number), started_at=100.0 - number) for number in range(5)]
    cache.add(*launches)
    assert cache.newest(3) == [launches[4], launches[3], launches[2]]
    assert cache.newest(9) == launches[::-1]


def test_delete_and_prune(cache: Cache) -> None:
    old = {"torch": "2.12.0", "transformers": "5.23.0"}
    cache.add(*map(measured, range(6)), measured(6, environment=old), failed(7))
    assert cache.delete([measured(0).run_id, "unknown"]) == 1
    assert cache.prune(older_than=measured(2).started_at) == 1
    assert cache.prune(environment={"torch": "2.12.0"}) == 1
    assert cache.prune(host=IDENTITY.host, backend="pytorch") == 1
    assert list(cache.all()) == [measured(n) for n in (2, 3, 4, 5)]
    with pytest.raises(UsageError, match=r"^needs what to prune: an age, a host or an environment; found nothing"):
        cache.prune()


def test_a_database_named_by_a_url_is_reached_through_sqlalchemy() -> None:
    with Cache.open("sqlite:///:memory:") as cache:
        assert cache.find(**KEY) == []
        cache.add(measured(1), failed(2))
        assert cache.find(**KEY) == list(cache.all()) == [measured(1), failed(2)]
        assert cache.delete([failed(2).run_id]) == 1
        assert cache.check() == Health(rows=1, unreadable={}, damage=())
        assert cache.token() != cache.token()


def test_the_token_changes_with_every_commit_of_anyone(cache: Cache, place: str) -> None:
    tokens = [cache.token(), cache.token()]
    assert tokens[0] == tokens[1]
    with Cache.open(place) as other:
        for number in range(5):
            (cache if number % 2 else other).add(measured(number))
            tokens.append(cache.token())
            assert tokens[-1] == cache.token()
    assert len(set(tokens[1:])) == 6


def test_threads_share_a_cache(cache: Cache) -> None:
    cache.add(*map(measured, range(20)))
    found: list[int] = []

    def work(first: int) -> None:
        for number in range(first, first + 10):
            cache.add(measured(number))
            found.append(len(cache.find(**KEY)))

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert max(found) == len(list(cache.all())) == 60
