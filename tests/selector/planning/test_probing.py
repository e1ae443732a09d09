"""The first calibration on a host probes it, once; a machine that cannot be probed is calibrated all the same."""

import dataclasses

import pytest

from calibration.cache.cache import Cache
from calibration.supervision.device_lock import device_lock
from selector.host.spec import Device, HostSpec
from selector.planning.events import CalibrationEvent, ProbeBegan, ProbeEnded, ProbeFailed
from selector.planning.probing import LEAST_BUDGETS, probe_once
from selector.predict.limits.take_probe import EXPECTED_SECONDS
from tests.calibration.probes import probed


class Kept(list[CalibrationEvent]):
    """A reporter that keeps what it is told."""

    def report(self, event: CalibrationEvent, /) -> None:
        self.append(event)


@pytest.fixture
def here() -> HostSpec:
    """This machine without any backend, so that numpy probes it; it reads half a GiB."""
    host = HostSpec.detect()
    device = dataclasses.replace(host.device, name=f"{host.device.name} of a test", free_bytes=2 << 30)
    return dataclasses.replace(host, devices=(device,), installations={})


@pytest.fixture
def npu(here: HostSpec) -> HostSpec:
    """A host whose device nobody here can probe."""
    return dataclasses.replace(
        here, devices=(Device(kind="ascend", name="Ascend 910B", memory_bytes=64 << 30, free_bytes=64 << 30),)
    )


def test_a_host_is_probed_once(here: HostSpec, cache: Cache) -> None:
    events = Kept()
    seconds = probe_once(here, cache, events)
    (probe,) = cache.probes(here.identifier)
    assert events == [ProbeBegan(expected_s=EXPECTED_SECONDS), ProbeEnded(probe=probe)]
    assert seconds >= probe.seconds > 0
    assert probe_once(here, cache, events) == 0.0
    assert (len(events), cache.probes()) == (2, [probe])


def test_a_machine_that_cannot_be_probed_is_reported(npu: HostSpec, cache: Cache) -> None:
    events = Kept()
    probe_once(npu, cache, events)
    assert events[1:] == [ProbeFailed(message="no interpreter here can probe Ascend 910B")]
    assert cache.probes() == []


def test_a_short_budget_is_left_to_the_candidates(npu: HostSpec, cache: Cache) -> None:
    events = Kept()
    assert probe_once(npu, cache, events, budget_s=LEAST_BUDGETS * EXPECTED_SECONDS - 1) == 0.0
    assert events == []
    probe_once(npu, cache, events, budget_s=LEAST_BUDGETS * EXPECTED_SECONDS)
    assert len(events) == 2


def test_a_host_with_a_probe_needs_no_device(here: HostSpec, cache: Cache) -> None:
    cache.add_probe(probed(1, host=here.identifier))
    with device_lock(here.device.name):
        assert probe_once(here, cache, Kept()) == 0.0


def test_a_probe_of_another_host_is_no_probe_of_this_one(npu: HostSpec, cache: Cache) -> None:
    cache.add_probe(probed(1, host="elsewhere"))
    events = Kept()
    probe_once(npu, cache, events)
    assert events[:1] == [ProbeBegan(expected_s=EXPECTED_SECONDS)]
