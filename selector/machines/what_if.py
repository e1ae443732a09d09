"""what_if(): a machine that one does not hold, as a host that the rules can look at."""

import re
from pathlib import Path

from calibration.errors import UsageError
from selector.host.kinds import KINDS
from selector.host.spec import HostSpec
from selector.machines.host_file import read
from selector.machines.installations import assumed
from selector.machines.public_machines import PREFIX, PublicMachine, machine_names


def what_if(machine: str) -> HostSpec:
    """A machine that one does not hold, for `explain` and `select`; nothing of it is measured or cached.

    Args:
        machine: `host:NAME` of the library, `host:NAME x2` for two such GPUs, or the file that
            `autobackend host --json` wrote there.

    Raises:
        UsageError: there is no such machine, or the file is no host.
        BackendError: the config file that names interpreters cannot be read.
    """
    if machine and not machine.startswith(PREFIX):
        if machine in machine_names() and not Path(machine).exists():
            raise UsageError(f"there is no file {machine}", f"a machine of the library is named {PREFIX}{machine}")
        return read(Path(machine))
    match = re.fullmatch(r"(?P<name>\S+)(?:\s+x\s?(?P<count>[1-9]\d{0,2}))?", machine.removeprefix(PREFIX).strip())
    if match is None:
        raise UsageError(
            f"needs a machine like {PREFIX}NAME or '{PREFIX}NAME x2'; found {machine!r}",
            f"the machines are {', '.join(machine_names())}",
        )
    count = int(match["count"] or 1)
    name = f"{PREFIX}{match['name']}" + (f" x{count}" if count > 1 else "")
    return PublicMachine.read(match["name"]).host(name, count, assumed())


def library(devices: int = 1) -> tuple[HostSpec, ...]:
    """Every machine of the library: GPUs first, then processors, the largest memory first.

    Args:
        devices: so many GPUs of each product; a processor is one.

    Raises:
        BackendError: the config file that names interpreters cannot be read.
    """
    installations = assumed()
    hosts = []
    for name in machine_names():
        machine = PublicMachine.read(name)
        count = 1 if machine.accelerator is None else devices
        called = f"{PREFIX}{name}" + (f" x{count}" if count > 1 else "")
        hosts.append(machine.host(called, count, installations))
    return tuple(sorted(hosts, key=_place))


def _place(host: HostSpec) -> tuple[bool, int, int, str]:
    device = host.device
    return device.kind == "cpu", list(KINDS).index(device.kind), -device.memory_bytes, host.place
