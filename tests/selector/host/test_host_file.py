"""A machine that a file names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.errors import UsageError
from selector.host.spec import HOST_FILE, TOLD_CORES, HostSpec
from selector.machines.host_file import written


def environ(file: Path) -> dict[str, str]:
    return {HOST_FILE: str(file), "CUDA_VISIBLE_DEVICES": ""}


def test_its_name_and_its_devices_are_the_file_s_and_its_cores_as_found(tmp_path: Path) -> None:
    found = HostSpec.detect()
    if found.device.kind != "cpu":
        pytest.skip("a machine with an accelerator")
    file = tmp_path / "host.json"
    named = replace(found, identifier="node-type-a", cores=999, devices=(replace(found.device, name="Alpha"),))
    file.write_text(json.dumps(written(named, None, packages=False)))
    host = HostSpec.detect(environ=environ(file))
    assert (host.identifier, host.device.name) == ("node-type-a", "Alpha")
    assert host.cores == found.cores
    assert host.installations.keys() == found.installations.keys()
    assert host.what_if is None


def test_a_file_of_a_machine_with_other_devices_is_refused(tmp_path: Path) -> None:
    found = HostSpec.detect()
    file = tmp_path / "host.json"
    named = replace(found, devices=(replace(found.device, kind="cuda"), replace(found.device, kind="cuda")))
    file.write_text(json.dumps(written(named, None, packages=False)))
    with pytest.raises(UsageError, match="is of a machine with cuda, cuda; here"):
        HostSpec.detect(environ=environ(file))


def test_a_part_of_the_machine_s_devices_is_that_machine(tmp_path: Path) -> None:
    found = HostSpec.detect()
    if found.device.kind != "cpu":
        pytest.skip("a machine with an accelerator")
    file = tmp_path / "host.json"
    alpha, beta = (replace(found.device, name=name) for name in ("Alpha", "Beta"))
    file.write_text(json.dumps(written(replace(found, identifier="four", devices=(alpha,) * 4), None, packages=False)))
    host = HostSpec.detect(environ=environ(file))
    assert (host.identifier, [device.name for device in host.devices]) == ("four", ["Alpha"])
    file.write_text(json.dumps(written(replace(found, devices=(alpha, beta)), None, packages=False)))
    with pytest.raises(UsageError, match="is of a machine with cpu, cpu; here are cpu"):
        HostSpec.detect(environ=environ(file))


@pytest.mark.parametrize("cores", ["", "two", "0", "\N{SUPERSCRIPT TWO}"])
def test_a_number_of_cores_that_cannot_be_is_not_told(cores: str) -> None:
    assert HostSpec.detect(environ={TOLD_CORES: cores}).cores == HostSpec.detect(environ={}).cores


def test_a_file_that_nests_too_deep_is_no_json(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    file.write_text("[" * 100_000)
    with pytest.raises(UsageError, match="is no JSON: maximum recursion depth exceeded"):
        HostSpec.detect(environ=environ(file))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        HostSpec.detect(environ=environ(tmp_path / "none.json"))
