"""The library of public machines: every file reads as a host, with a source for every figure."""

import json
from pathlib import Path

import pytest

from calibration.errors import UsageError
from selector.host.cpu import FEATURES, features_of
from selector.host.kinds import KINDS
from selector.host.spec import Known
from selector.machines import host_file
from selector.machines.public_machines import PublicMachine, machine_names
from selector.machines.what_if import library, what_if
from tests.selector.conftest import GIB

GPUS = [name for name in machine_names() if PublicMachine.read(name).accelerator is not None]
CPUS = [name for name in machine_names() if name not in GPUS]


def test_the_machines_that_people_ask_for_are_there() -> None:
    wanted = "h100-sxm-80gb h200-141gb b200-180gb a100-40gb v100 t4 l4 l40s a10g rtx-3090 rtx-4090 mi300x-192gb"
    assert set(wanted.split()) <= set(GPUS)
    assert {"xeon-spr", "epyc-genoa", "epyc-turin", "laptop-avx2-16gb"} <= set(CPUS)


@pytest.mark.parametrize("name", machine_names())
def test_a_machine_is_told_as_host_json_tells_one(name: str, tmp_path: Path) -> None:
    """What HostSpec says of it is what its own reader reads again."""
    machine = what_if(f"host:{name}")
    file = tmp_path / "host.json"
    written = {**host_file.written(machine, None, packages=False), "cores": machine.cores or 1}
    file.write_text(json.dumps(written))
    read = what_if(str(file))
    assert read.devices == machine.devices
    assert (read.cpu_name, read.cpu_model, read.cpu_features, read.memory_bytes) == (
        machine.cpu_name,
        machine.cpu_model,
        machine.cpu_features,
        machine.memory_bytes,
    )


@pytest.mark.parametrize("name", machine_names())
def test_every_figure_has_its_source(name: str) -> None:
    machine = PublicMachine.read(name)
    assert (machine.accelerator is None) != (machine.processor is None)
    figures = {"memory", "reserved", "bandwidth"}
    if machine.processor is not None:
        figures |= {"processor", "features"}
    elif machine.accelerator is not None and machine.accelerator.capability:
        figures |= {"capability"}
    assert machine.sources.keys() == figures
    assert all(len(source) > 10 for source in machine.sources.values())


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_is_one_that_the_rules_can_look_at(name: str) -> None:
    device = what_if(f"host:{name}").device
    assert device.kind in KINDS.keys() - {"cpu"}
    assert (device.capability is not None) == (device.kind == "cuda")
    assert 0.9 * device.memory_bytes < device.free_bytes < device.memory_bytes
    # Of many names the size is a part; memory that the driver reports is within a tenth of it.
    size = next((int(part[:-2]) for part in name.split("-") if part.endswith("gb")), None)
    assert size is None or abs(device.memory_bytes / GIB - size) < 0.1 * size


@pytest.mark.parametrize("name", CPUS)
def test_a_processor_has_the_features_of_its_microarchitecture(name: str) -> None:
    host = what_if(f"host:{name}")
    assert features_of(host.cpu_name)
    assert features_of(host.cpu_name) <= host.cpu_features <= FEATURES
    assert (host.device.kind, host.device.memory_bytes) == ("cpu", host.memory_bytes)
    assert 0 < host.memory_bytes - host.device.free_bytes <= 5 * GIB


def test_nothing_tells_a_machine_of_the_library_for_this_one() -> None:
    hosts = library()
    assert len({host.identifier for host in hosts}) == len(machine_names())
    for host in hosts:
        assert not all(digit in "0123456789abcdef" for digit in host.identifier)
        assert {installation.known for installation in host.installations.values()} == {Known.ASSUMED}


def test_the_device_is_called_as_its_driver_calls_it() -> None:
    assert what_if("host:h100-sxm-80gb").device.name == "NVIDIA H100 80GB HBM3"
    assert what_if("host:xeon-spr").device.name == (
        "Intel Xeon Platinum 8488C (sapphirerapids + avx512_fp16 avx_vnni), 32 cores"
    )
    assert what_if("host:graviton3").device.name == "ARM neoverse_v1, 32 cores"


@pytest.mark.parametrize("machine", ["host:a100-40gb x2", "host:a100-40gb  x 2"])
def test_several_of_one_gpu(machine: str) -> None:
    host = what_if(machine)
    assert (host.place, len(host.devices), len(set(host.devices))) == ("host:a100-40gb x2", 2, 1)


def test_the_order_is_gpus_first_and_the_largest_first() -> None:
    places = [host.place for host in library()]
    assert places[:2] == ["host:b200-180gb", "host:h200-141gb"]
    assert places.index("host:mi300x-192gb") < places.index("host:epyc-genoa")
    assert places[-1] == "host:laptop-avx2-16gb"
    assert "host:l4 x2" in [host.place for host in library(devices=2)]
    assert "host:xeon-spr" in [host.place for host in library(devices=2)]


@pytest.mark.parametrize(
    ("machine", "message", "mend"),
    [
        ("host:rtx4090", "there is no machine host:rtx4090", "did you mean host:rtx-4090"),
        ("host:zzz", "there is no machine host:zzz", "the machines are a100-40gb, "),
        ("host:../x", "there is no machine host:../x", "the machines are "),
        ("host:xeon-spr x2", "host:xeon-spr x2 has one processor; found x2", "name it once: --host host:xeon-spr"),
        ("host:l4 x0", "needs a machine like host:NAME or 'host:NAME x2'; found 'host:l4 x0'", "the machines are "),
        ("host:", "needs a machine like host:NAME or 'host:NAME x2'; found 'host:'", "the machines are "),
        ("", "needs a machine like host:NAME or 'host:NAME x2'; found ''", "the machines are "),
        ("rtx-4090", "there is no file rtx-4090", "a machine of the library is named host:rtx-4090"),
    ],
)
def test_a_machine_that_is_not_there(machine: str, message: str, mend: str) -> None:
    with pytest.raises(UsageError) as raised:
        what_if(machine)
    assert raised.value.message == message
    assert raised.value.mend.startswith(mend)
