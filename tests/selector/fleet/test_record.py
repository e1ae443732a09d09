"""What the shared cache has of the hosts of a fleet."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.workload import Workload
from selector.evidence.identity import identity
from selector.fleet.record import times_by_host
from tests.selector.answering import EAGER, HOST, KEY, SDPA, SPEC
from tests.selector.launches import measurement, rounds

ASKED = Workload(prompt_tokens=128, output_tokens=32, batch=1)
OTHER = replace(HOST, identifier="b" * 12)
OTHER_KEY = identity(SPEC, OTHER)


def test_each_host_has_the_times_of_its_own_launches(cache: Cache) -> None:
    cache.add(
        *rounds(SDPA, KEY, HOST, (1.0, 1.1, 1.2)),
        *rounds(EAGER, KEY, HOST, (2.0,)),
        *rounds(SDPA, OTHER_KEY, OTHER, (1.5,)),
    )
    times = times_by_host(cache, SPEC, KEY.device, [HOST.identifier, OTHER.identifier], ASKED)
    assert {host: set(of_host) for host, of_host in times.items()} == {
        HOST.identifier: {SDPA, EAGER}, OTHER.identifier: {SDPA},
    }  # fmt: skip
    assert times[OTHER.identifier][SDPA] / times[HOST.identifier][SDPA] == pytest.approx(1.5 / 1.1, rel=0.05)


def test_hosts_that_were_not_asked_for_are_left_out(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
    assert times_by_host(cache, SPEC, KEY.device, [OTHER.identifier], ASKED) == {}


def test_launches_on_a_few_layers_stand_apart(cache: Cache) -> None:
    cut = replace(KEY, cut="3/30")
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, cut, HOST, (0.1,)))
    assert set(times_by_host(cache, SPEC, KEY.device, [HOST.identifier], ASKED)[HOST.identifier]) == {
        SDPA, f"{SDPA} on 3 layers",
    }  # fmt: skip


def test_only_the_newest_versions_count(cache: Cache) -> None:
    old = measurement(SDPA, KEY, HOST, slow=9.0, environment={"torch": "1"}, at=0.0)
    cache.add(old, *rounds(SDPA, KEY, HOST, (1.0,)))
    new = times_by_host(cache, SPEC, KEY.device, [HOST.identifier], ASKED)[HOST.identifier][SDPA]
    cache.delete([old.run_id])
    assert times_by_host(cache, SPEC, KEY.device, [HOST.identifier], ASKED)[HOST.identifier][SDPA] == new
