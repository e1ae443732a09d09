"""The screens of machines that one does not hold: what a plan assumes, the library, and which machines run a model."""

from collections.abc import Iterable, Sequence

from selector.demand.demand import Demand
from selector.host.spec import Device, HostSpec
from selector.machines.survey import Obstacle, Survey, Surveyed, backends_of
from selector.screens.text import columns, figure, plural, size


def what_if_lines(host: HostSpec, demand: Demand, *, across: int | None = None) -> list[str]:
    """Which machine it is, and what is taken for granted of it, above an answer; nothing for this machine."""
    if host.what_if is None:
        return []
    rows = [("what if", f"{host.what_if.name}: {_described(host)}")]
    idle = len(host.devices) - demand.tensor_parallel
    if idle > 0:
        rows.append(("", f"{idle} of the {len(host.devices)} idle (--tensor-parallel {len(host.devices)} uses all)"))
    rows += [("assumed" if i == 0 else "", sentence) for i, sentence in enumerate(host.what_if.assumptions)]
    return [*columns(rows, across=across, gap=3), ""]


def library_screen(hosts: Sequence[HostSpec]) -> list[str]:
    """A line for each machine of the library."""
    head = ("host", "device", "memory", "free", "reads", "compute capability, or instructions")
    rows = [
        (host.place, host.device.name, size(host.device.memory_bytes), _free(host.device), _reads(host), _can(host))
        for host in hosts
    ]
    return columns([head, *rows], "<<>>>")


def survey_screen(survey: Survey, *, across: int | None = None) -> list[str]:
    """A line for each machine: how many candidates there are, which are first, and why there are no others."""
    head = ("host", "free", "candidates", "first", "then", "refused")
    able = f"{len(survey.able)} of {plural(len(survey.machines), 'machine')}"
    return [
        *columns([head, *map(_survey_row, survey.machines)], "<>>", across=across),
        "",
        f"{able} can run {survey.model} for {survey.workload.label}, by the rules alone: nothing was measured there.",
        "Every backend is taken for installed, and the order is the static one. Backends for another kind of device",
        "are not named. One machine with every reason: --host host:NAME",
    ]


def _survey_row(machine: Surveyed) -> tuple[str, ...]:
    first, *others = backends_of(machine.runs) or ["-"]
    label = machine.runs[0].candidate.label if machine.runs else first
    return (
        machine.host.place,
        _free(machine.host.device),
        str(len(machine.runs) or "-"),
        label,
        ", ".join(others),
        "; ".join(_refused(machine)),
    )


def _refused(machine: Surveyed) -> Iterable[str]:
    """`memory: vllm, transformers (17.4 GiB)`, where that is the least that one of their variants needs."""
    for obstacle, verdicts in machine.refused.items():
        named = verdicts
        if obstacle is Obstacle.DEVICE:
            named = tuple(v for v in verdicts if all(reason.rule != "device_kind" for reason in v.reasons))
        if named:
            least = min(v.needed_bytes for v in [v for v in named if not v.left_out] or named)
            yield f"{obstacle}: {', '.join(backends_of(named))}" + (
                f" ({size(least)})" if obstacle is Obstacle.MEMORY else ""
            )


def _described(host: HostSpec) -> str:
    """`2 x NVIDIA L4, 21.9 GiB of 22.5 GiB free, compute capability 8.9`."""
    count, device = len(host.devices), host.device
    parts = [f"{count} x {device.name}" if count > 1 else device.name]
    if device.memory_bytes:
        parts.append(f"{size(device.free_bytes)} of {size(device.memory_bytes)} free")
    can = _can(host)
    parts.append(f"compute capability {can}" if device.capability else can)
    if host.what_if and host.what_if.bandwidth_gbs:
        parts.append(f"reads {_reads(host)}")
    return ", ".join(filter(None, parts))


def _can(host: HostSpec) -> str:
    """What kernels are chosen by: the compute capability of a GPU, the instructions of a processor."""
    if host.device.kind == "cpu":
        return " ".join(sorted(host.cpu_features)) or "no instructions that matter"
    capability = host.device.capability
    return f"{capability[0]}.{capability[1]}" if capability else ""


def _reads(host: HostSpec) -> str:
    bandwidth = host.what_if.bandwidth_gbs if host.what_if else None
    return f"{figure(bandwidth)} GB/s" if bandwidth else ""


def _free(device: Device) -> str:
    return size(device.free_bytes) if device.memory_bytes else "unknown"
