"""Which devices of a host can be calibrated on at once, as the files of /sys tell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from selector.fleet.seats import Seat, seats_of
from selector.host.device import Device
from selector.host.spec import HostSpec
from tests.selector.conftest import A100, host


@dataclass(frozen=True)
class Plugged:
    """A GPU where it is plugged in."""

    at: str
    """Below /sys/devices: pci0000:00/0000:00:01.0/0000:01:00.0."""
    near: str
    """The cores near to it, as Linux lists them."""

    @property
    def device(self) -> Device:
        address = self.at.rpartition("/")[2]
        return replace(A100, address=address, uuid=f"GPU-{address}")


def machine(root: Path, plugged: Sequence[Plugged], *, cores: int, threads: int = 1) -> HostSpec:
    """A machine whose physical cores have so many threads each; Linux numbers all first threads first."""
    for place in plugged:
        folder = root / "sys/devices" / place.at
        folder.mkdir(parents=True)
        (folder / "local_cpulist").write_text(f"{place.near}\n")
        links = root / "sys/bus/pci/devices"
        links.mkdir(parents=True, exist_ok=True)
        (links / folder.name).symlink_to(folder)
    for number in range(cores * threads):
        folder = root / f"sys/devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        siblings = [number % cores + cores * thread for thread in range(threads)]
        (folder / "thread_siblings_list").write_text(f"{','.join(map(str, siblings))}\n")
    return host(devices=tuple(place.device for place in plugged), cpus=tuple(range(cores * threads)))


def test_gpus_below_ports_of_their_own_share_the_cores_between_them(tmp_path: Path) -> None:
    plugged = [
        Plugged("pci0000:00/0000:00:01.0/0000:01:00.0", "0-7,16-23"),
        Plugged("pci0000:00/0000:00:02.0/0000:02:00.0", "0-7,16-23"),
        Plugged("pci0000:80/0000:80:01.0/0000:81:00.0", "8-15,24-31"),
    ]
    assert seats_of(machine(tmp_path, plugged, cores=16, threads=2), tmp_path) == (
        Seat(uuid="GPU-0000:01:00.0", cpus=(0, 1, 2, 3, 16, 17, 18, 19)),
        Seat(uuid="GPU-0000:02:00.0", cpus=(4, 5, 6, 7, 20, 21, 22, 23)),
        Seat(uuid="GPU-0000:81:00.0", cpus=(*range(8, 16), *range(24, 32))),
    )


def test_a_seat_is_given_its_gpu_alone() -> None:
    assert Seat(uuid="GPU-1", cpus=(0,)).variables == {"CUDA_VISIBLE_DEVICES": "GPU-1"}


SWITCHED = "pci0000:00/0000:00:01.0/0000:01:00.0"


@pytest.mark.parametrize(
    ("places", "taken"),
    [
        pytest.param([f"{SWITCHED}/0000:02:{n}.0/0000:{n}:00.0" for n in ("03", "04")], 0, id="below one switch"),
        pytest.param(["pci0000:00/0000:00:1b.0", "pci0000:00/0000:00:1c.0"], 0, id="a virtual machine without ports"),
        pytest.param(["pci0001:00/0001:00:00.0", "pci0002:00/0002:00:00.0"], 2, id="a virtual machine with buses"),
        pytest.param(["pci0000:00/0000:00:01.0/0000:01:00.0"], 0, id="one GPU"),
    ],
)
def test_of_gpus_that_share_a_bus_one_is_taken(tmp_path: Path, places: Sequence[str], taken: int) -> None:
    found = machine(tmp_path, [Plugged(at, "0-15") for at in places], cores=16)
    assert len(seats_of(found, tmp_path)) == taken


@pytest.mark.parametrize(("cores", "taken"), [(12, 4), (9, 3), (6, 2), (5, 0)])
def test_each_has_three_physical_cores(tmp_path: Path, cores: int, taken: int) -> None:
    plugged = [Plugged(f"pci000{n}:00/000{n}:00:00.0", f"0-{2 * cores - 1}") for n in range(1, 5)]
    seats = seats_of(machine(tmp_path, plugged, cores=cores, threads=2), tmp_path)
    assert len(seats) == taken
    given = [number for seat in seats for number in seat.cpus]
    assert len(given) == len(set(given))


def test_cores_that_a_process_may_not_use_do_not_count(tmp_path: Path) -> None:
    plugged = [Plugged(f"pci000{n}:00/000{n}:00:00.0", "0-15") for n in (1, 2)]
    found = machine(tmp_path, plugged, cores=16)
    assert len(seats_of(found, tmp_path)) == 2
    assert seats_of(replace(found, cpus=tuple(range(5))), tmp_path) == ()


def test_cores_that_are_near_to_several_in_part_are_nobody_s(tmp_path: Path) -> None:
    plugged = [Plugged("pci0001:00/0001:00:00.0", "0-7"), Plugged("pci0002:00/0002:00:00.0", "4-15")]
    assert seats_of(machine(tmp_path, plugged, cores=16), tmp_path) == ()


def test_slices_other_products_and_devices_without_an_address_take_no_part(tmp_path: Path) -> None:
    plugged = [Plugged(f"pci000{n}:00/000{n}:00:00.0", "0-15") for n in (1, 2)]
    found = machine(tmp_path, plugged, cores=16)
    first, second = found.devices
    for other in (
        replace(second, mig="3g.20gb"),
        replace(second, name="NVIDIA H100"),
        replace(second, power_limit_w=250.0),
        replace(second, address=None),
        replace(second, uuid=None),
        replace(second, kind="rocm"),
    ):
        assert seats_of(replace(found, devices=(first, other)), tmp_path) == ()


def test_a_processor_is_one_device(tmp_path: Path) -> None:
    assert seats_of(host(), tmp_path) == ()
