"""What the shared cache has of the hosts of a fleet."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from selector.demand.demand import Demand
from selector.evidence.identity import identity
from selector.fleet.record import times_by_host
from tests.selector.answering import EAGER, FIRST, HOST, KEY, SDPA, SPEC, with_versions
from tests.selector.launches import measurement, rounds

ASKED = Demand.of(workload="pp128:tg32:b1")
OTHER = replace(HOST, identifier="b" * 12)
OTHER_KEY = identity(SPEC, OTHER)


def test_each_host_has_the_times_of_its_own_launches(cache: Cache) -> None:
    cache.add(
        *rounds(SDPA, KEY, HOST, (1.0, 1.1, 1.2)),
        *rounds(EAGER, KEY, HOST, (2.0,)),
        *rounds(SDPA, OTHER_KEY, OTHER, (1.5,)),
    )
    times = times_by_host(cache, SPEC, [HOST, OTHER], ASKED)
    assert {host: set(of_host) for host, of_host in times.items()} == {
        HOST.identifier: {SDPA, EAGER}, OTHER.identifier: {SDPA},
    }  # fmt: skip
    assert times[OTHER.identifier][SDPA] / times[HOST.identifier][SDPA] == pytest.approx(1.5 / 1.1, rel=0.05)


def test_hosts_that_were_not_asked_for_are_left_out(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
    assert times_by_host(cache, SPEC, [OTHER], ASKED) == {}


def test_launches_on_a_few_layers_stand_apart(cache: Cache) -> None:
    cut = replace(KEY, cut="3/30")
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, cut, HOST, (0.1,)))
    assert set(times_by_host(cache, SPEC, [HOST], ASKED)[HOST.identifier]) == {
        SDPA, f"{SDPA} on 3 layers",
    }  # fmt: skip


def test_only_launches_with_the_versions_of_today_count(cache: Cache) -> None:
    cache.add(
        measurement(SDPA, KEY, HOST, environment=with_versions(torch="1")),
        measurement(FIRST, KEY, HOST, policy="0"),
        *rounds(EAGER, KEY, HOST, (1.0,)),
    )
    assert set(times_by_host(cache, SPEC, [HOST], ASKED)[HOST.identifier]) == {EAGER}
    assert times_by_host(cache, SPEC, [OTHER], ASKED) == {}


def test_launches_on_another_number_of_devices_are_of_another_question(cache: Cache) -> None:
    cache.add(*rounds(SDPA, replace(KEY, device_count=2), HOST, (1.0,)), *rounds(EAGER, KEY, HOST, (1.0,)))
    assert set(times_by_host(cache, SPEC, [HOST], ASKED)[HOST.identifier]) == {EAGER}
    both = Demand.of(workload="pp128:tg32:b1", tensor_parallel=2)
    assert set(times_by_host(cache, SPEC, [HOST], both)[HOST.identifier]) == {SDPA}
