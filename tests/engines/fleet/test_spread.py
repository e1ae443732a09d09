"""Candidates spread over two devices for real: this machine's processor stands for both."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.errors import DeviceBusy
from calibration.measurement import Measurement
from calibration.supervision.device_lock import device_lock
from selector.demand.demand import Demand
from selector.fleet.command import Commands, Ended
from selector.fleet.seats import Seat
from selector.fleet.spread import calibrate_spread
from selector.host.spec import HostSpec

pytestmark = pytest.mark.engine

LABELS = ("transformers:eager", "transformers:sdpa")
DEMAND = Demand.of(workload="pp16:tg8:b1", backends=LABELS)


@pytest.fixture
def here() -> HostSpec:
    found = HostSpec.detect()
    if found.device.kind != "cpu":
        pytest.skip("needs a machine without accelerators")
    return found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOBACKEND_CACHE", str(tmp_path / "cache.db"))
    return tmp_path / "cache.db"


def spread(model: Path, here: HostSpec, commands: Commands) -> Ended:
    return calibrate_spread(
        str(model),
        DEMAND,
        ["--no-probe", "--rounds", "2"],
        host=here,
        seats=[Seat(uuid="", cpus=())] * 2,
        commands=commands,
    )


@contextmanager
def watched(commands: Commands) -> Iterator[set[str]]:
    """What is said of the devices meanwhile."""
    said, over = set[str](), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            said.add(commands.now)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield said
    finally:
        over.set()
        watching.join()


def launches(cache: Path) -> list[Measurement]:
    with Cache.open(cache) as opened:
        return [one for one in opened.all() if isinstance(one, Measurement)]


def test_each_device_launches_a_part_and_one_goes_on(tiny: Callable[..., Path], here: HostSpec, cache: Path) -> None:
    commands = Commands()
    with watched(commands) as said:
        ended = spread(tiny("llama"), here, commands)
    assert ended.code == 0, ended.lines
    assert any("device 0: " in now and "device 1: " in now for now in said), said
    measured = launches(cache)
    first = measured[:2]
    assert sorted(one.candidate.label for one in first) == sorted(LABELS)
    assert {(one.identity.host, one.identity.device) for one in measured} == {(here.identifier, here.device.name)}
    assert len({one.calibration_id for one in measured}) == 1
    # Nothing is measured twice: what the devices launched is what the last command went on from.
    count = len(measured)
    assert spread(tiny("llama"), here, commands).code == 0
    assert len(launches(cache)) == count


def test_a_device_on_which_somebody_calibrates_is_busy(tiny: Callable[..., Path], here: HostSpec, cache: Path) -> None:
    with device_lock(here.device.name):
        ended = spread(tiny("llama"), here, Commands())
    assert ended.code == DeviceBusy.exit_code
    assert f"process {os.getpid()}" in ended.reason
    assert not launches(cache)
