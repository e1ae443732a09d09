"""A probe of this machine, taken in a process of its own: all of it stands, or it is said why not."""

import dataclasses
import os
import sys
from pathlib import Path

import psutil
import pytest

from calibration.errors import BackendError, DeviceBusy
from calibration.supervision.device_lock import device_lock
from selector.host.spec import Device, HostSpec, Installation
from selector.predict.limits.take_probe import last_cache_bytes, take_probe

GIB = 1 << 30


@pytest.fixture
def here() -> HostSpec:
    """This machine, which reads a quarter of its free memory at most: little, so that a test is short."""
    host = HostSpec.detect()
    device = dataclasses.replace(host.device, name=f"{host.device.name} of a test", free_bytes=2 * GIB)
    return dataclasses.replace(host, devices=(device,))


def without_torch(host: HostSpec, **installations: Installation) -> HostSpec:
    return dataclasses.replace(host, installations=installations)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.engine
def test_a_probe_with_torch(here: HostSpec) -> None:
    before = children()
    probe = take_probe(here, part_seconds=0.05)
    assert (probe.host, probe.device) == (here.identifier, here.device.name)
    assert {"torch", "python"} <= probe.versions.keys()
    assert {"float32", "bfloat16", "int8"} <= probe.rates.keys()
    assert probe.rates.keys() | probe.missing.keys() == {"float32", "bfloat16", "float16", "int8"}
    for reached in (probe.bandwidth_gbs, *probe.rates.values()):
        assert reached.one is not None
        assert min(reached.one, reached.all) > 0.1
        assert len(reached.samples) >= 3
    assert probe.seconds < 120
    assert children() == before


def test_where_there_is_no_torch_numpy_tells_what_it_can(here: HostSpec) -> None:
    probe = take_probe(without_torch(here), part_seconds=0.05)
    assert probe.versions.keys() == {"numpy", "python"}
    assert probe.rates.keys() == {"float32"}
    assert set(probe.missing) == {"bfloat16", "float16", "int8"}
    assert set(probe.missing.values()) == {"numpy multiplies float32 alone at the CPU's speed; torch is not there"}


def test_an_interpreter_that_is_broken_gives_way_to_the_next(here: HostSpec, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text(f"#!{sys.executable}\nraise SystemExit(3)\n")
    broken.chmod(0o755)
    torch = Installation(python=broken, versions={"torch": "2.13.0"}, site_packages=())
    assert "numpy" in take_probe(without_torch(here, transformers=torch), part_seconds=0.05).versions


def test_a_device_that_torch_does_not_know_is_said(here: HostSpec) -> None:
    npu = Device(kind="ascend", name="Ascend 910B", memory_bytes=64 * GIB, free_bytes=64 * GIB)
    with pytest.raises(BackendError) as caught:
        take_probe(dataclasses.replace(here, devices=(npu,)))
    assert caught.value.message == "no interpreter here can probe Ascend 910B"


def test_a_torch_for_cpus_is_not_asked_about_a_gpu(here: HostSpec) -> None:
    gpu = Device(kind="cuda", name="NVIDIA A100", memory_bytes=80 * GIB, free_bytes=80 * GIB)
    torch = Installation(python=Path(sys.executable), versions={"torch": "2.13.0+cpu"}, site_packages=())
    with pytest.raises(BackendError) as caught:
        take_probe(dataclasses.replace(without_torch(here, transformers=torch), devices=(gpu,)))
    assert caught.value.message == "no interpreter here can probe NVIDIA A100"


@pytest.mark.engine
def test_a_torch_that_finds_no_gpu_is_named_with_what_it_says(here: HostSpec) -> None:
    gpu = Device(kind="cuda", name="NVIDIA A100", memory_bytes=80 * GIB, free_bytes=80 * GIB)
    torch = Installation(python=Path(sys.executable), versions={"torch": "2.13.0"}, site_packages=())
    with pytest.raises(BackendError) as caught:
        take_probe(dataclasses.replace(without_torch(here, transformers=torch), devices=(gpu,)))
    assert caught.value.message.startswith(f"no interpreter here can probe NVIDIA A100\n  {sys.executable} (torch): ")


def test_a_device_that_is_being_calibrated_is_left_alone(here: HostSpec) -> None:
    with device_lock(here.device.name), pytest.raises(DeviceBusy, match=f"process {os.getpid()}"):
        take_probe(here)


def test_the_last_cache_is_the_largest_that_a_core_sees(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu/cpu3/cache"
    for index, size in enumerate(("32K", "1024K", "36608K")):
        (folder / f"index{index}").mkdir(parents=True)
        (folder / f"index{index}" / "size").write_text(f"{size}\n")
    assert last_cache_bytes(3, tmp_path) == 36608 << 10
    assert last_cache_bytes(0, tmp_path) == 0
