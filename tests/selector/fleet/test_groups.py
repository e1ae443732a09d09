"""Which hosts are alike."""

from dataclasses import replace

import pytest

from selector.fleet.groups import as_sold, grouped, kin_of
from selector.host.spec import Device
from tests.selector.answering import HOST
from tests.selector.conftest import A100

GIB = 1 << 30


def with_device(device: Device) -> object:
    return kin_of(replace(HOST, devices=(device,)))


@pytest.mark.parametrize(
    ("seen", "sold"), [(15.3, 16), (16.0, 16), (23.5, 24), (61.8, 64), (125.6, 128), (0.9, 1), (251.0, 256)]
)
def test_memory_is_as_it_is_sold(seen: float, sold: int) -> None:
    assert as_sold(int(seen * GIB)) == sold


def test_who_the_machine_is_and_what_is_free_tell_no_group() -> None:
    other = replace(HOST, identifier="another", devices=(replace(HOST.device, free_bytes=1),))
    assert kin_of(other) == kin_of(HOST)


@pytest.mark.parametrize(
    "change",
    [{"name": "another"}, {"driver": "999.1"}, {"power_limit_w": 123.0}, {"mig": "1g.5gb"}, {"memory_bytes": 7 * GIB}],
)
def test_what_decides_times_makes_another_group(change: dict[str, object]) -> None:
    assert with_device(replace(A100, **change)) != with_device(A100)  # type: ignore[arg-type]


def test_releases_of_one_driver_are_alike() -> None:
    assert with_device(replace(A100, driver="570.10")) == with_device(replace(A100, driver="570.86"))


def test_other_cores_or_instructions_make_another_group() -> None:
    hosts = {"a": HOST, "b": replace(HOST, cores=HOST.cores + 1), "c": replace(HOST, cpu_features=frozenset())}
    groups = grouped(hosts)
    assert sorted(groups.values()) == [("a",), ("b",), ("c",)]
