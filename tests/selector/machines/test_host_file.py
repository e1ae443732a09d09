"""A machine by its file: what `host --json` wrote, and what is no such file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.errors import UsageError
from calibration.registry import all_backends
from selector.explanation import explain
from selector.host.host_file import FORMAT
from selector.host.spec import Device, HostSpec, Known
from selector.machines.host_file import written
from selector.machines.what_if import what_if
from tests.calibration.probes import probed
from tests.selector.conftest import GIB
from tests.selector.launches import VERSIONS, cpu_host

MODEL = "shape:smollm2-135m"
GPU = Device(
    kind="cuda",
    name="NVIDIA H200",
    memory_bytes=140 * GIB,
    free_bytes=139 * GIB,
    capability=(9, 0),
    driver="570.1",
    power_limit_w=700.0,
    mig=None,
)


def told(host: HostSpec | None = None, **changes: Any) -> dict[str, Any]:
    """What `host --json` prints on another machine."""
    return {**written(host or cpu_host(), None, packages=False), **changes}


def file_of(folder: Path, content: Any) -> str:
    file = folder / "host.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def refused(folder: Path, content: Any) -> tuple[str, str]:
    path = file_of(folder, content)
    with pytest.raises(UsageError) as raised:
        what_if(path)
    return raised.value.message.removeprefix(path), raised.value.mend


def test_it_is_the_machine_that_wrote_it_and_nobody_takes_it_for_that(tmp_path: Path) -> None:
    there = replace(cpu_host(), devices=(GPU, GPU))
    path = file_of(tmp_path, told(there))
    read = what_if(path)
    assert read.what_if is not None
    assert (read.identifier, read.place) == (f"what-if {path}", path)
    assert (
        replace(read, identifier=there.identifier, what_if=None, installations=there.installations, cpus=there.cpus)
        == there
    )
    assert {i.known for i in read.installations.values()} == {Known.ASSUMED}
    assert read.what_if.bandwidth_gbs is None


def test_what_the_probe_reached_is_kept(tmp_path: Path) -> None:
    content = written(cpu_host(), probed(1, host="aaaaaaaaaaaa"), packages=False)
    read = what_if(file_of(tmp_path, content))
    assert read.what_if is not None
    assert read.what_if.bandwidth_gbs == probed(1).bandwidth_gbs.all


def test_packages_that_the_file_names_are_judged_and_others_are_taken_for_installed(tmp_path: Path) -> None:
    content = told(packages={"transformers": {"Transformers": "4.40", "torch": "2.13.0"}, "ctranslate2": {}})
    machine = what_if(file_of(tmp_path, content))
    verdicts = {v.candidate.label: v for v in explain(MODEL, host=machine).verdicts}
    reasons = {label: [(r.text, r.mend) for r in v.reasons] for label, v in verdicts.items()}
    assert reasons["transformers:sdpa"] == [
        ("needs transformers>=5; transformers 4.40 is installed", 'pip install "transformers>=5"')
    ]
    assert reasons["ctranslate2:float32"] == [
        ("needs ctranslate2>=4.7; it is not installed", "autobackend backends install ctranslate2")
    ]
    assert reasons["onnxruntime:fp32"] == []
    assert machine.what_if is not None
    assert machine.what_if.assumptions[0] == (
        "the libraries of ctranslate2, transformers load in the versions that the file names"
    )


def test_a_host_tells_the_packages_that_rules_look_for() -> None:
    packages = written(cpu_host(), None, packages=True)["packages"]
    assert packages.keys() == all_backends().keys()
    assert packages["transformers"] == {
        name: VERSIONS[name] for name in ("accelerate", "torch", "transformers") if name in VERSIONS
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", " is no JSON: "),
        ("[]", f" is no host: needs the format '{FORMAT}'; found no format"),
        ({"identifier": "x"}, f" is no host: needs the format '{FORMAT}'; found no format"),
        (
            {"format": "autobackend-results", "version": 4},
            f" is no host: needs the format '{FORMAT}'; found 'autobackend-results'",
        ),
        (told(version=2), " is a host of version 2; this autobackend reads 1"),
        (told(cores=0), " is no host: needs a finite number >= 1 in cores; found 0"),
        (told(cores="2"), " is no host: needs a whole number in cores; found '2'"),
        (told(devices=[]), " is no host: needs a list with something in it in devices; found []"),
        (told(speed=1), " is no host: knows no field speed"),
        (told(probe={"rates": 1}), " is no host: "),
        (told(packages={"foo": {}}), " is no host: needs backends in packages ("),
    ],
)
def test_what_is_no_host(content: Any, message: str, tmp_path: Path) -> None:
    found, mend = refused(tmp_path, content)
    assert found.startswith(message)
    assert mend


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "tpu"}, "needs a device of a kind that is known (cpu, cuda, "),
        ({"capability": "nine"}, "needs a capability like '9.0'; found 'nine'"),
        ({"free_bytes": 200 * GIB}, f"needs no more free_bytes than memory_bytes; found {200 * GIB}"),
    ],
)
def test_a_device_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = told(replace(cpu_host(), devices=(GPU,)))
    content["devices"][0] |= changes
    assert refused(tmp_path, content)[0].startswith(f" is no host: {message}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file or directory") as raised:
        what_if(str(tmp_path / "none.json"))
    assert raised.value.mend == "write one on that machine: autobackend host --json > host.json"
