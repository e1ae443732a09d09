"""The screens of `host` and `shapes`."""

from collections.abc import Sequence

from calibration.probing.probe import Probe, Reached
from selector.host.spec import Device, HostSpec
from selector.model.spec import ModelSpec
from selector.planning.events import ProbeBegan, ProbeEnded, ProbeFailed
from selector.screens.probe import reaches
from selector.screens.text import columns, day, figure, listing, parameters, plural, seconds, size


def host_screen(host: HostSpec, probe: Probe | None = None) -> list[str]:
    """Devices, CPU, memory, and what the probe of this machine reached."""
    rows = [("host", host.identifier)]
    accelerators = [d for d in host.devices if d.kind != "cpu"]
    rows += [("device" if i == 0 else "", _device(d)) for i, d in enumerate(accelerators)]
    if not accelerators:
        rows.append(("device", "the CPU; no GPU"))
    features = " ".join(sorted(host.cpu_features))
    rows.append(("CPU", f"{host.cpu_model} ({host.cpu_name}): {features or 'no feature that matters'}"))
    rows.append(("cores", str(host.cores)))
    rows.append(("memory", size(host.memory_bytes)))
    if probe is None:
        rows.append(("probe", "none yet (autobackend host --probe)"))
    else:
        rows += probe_rows(probe)
    return columns(rows)


def probe_rows(probe: Probe) -> list[tuple[str, str]]:
    """What a probe reached, a row for the memory and for each dtype; what it lacks; when and by what it was taken."""
    rows = [("reads", _reached(probe.bandwidth_gbs, "GB/s"))]
    rows += [
        (dtype, _reached(reached, "GFLOP/s" if dtype != "int8" else "GOP/s")) for dtype, reached in probe.rates.items()
    ]
    rows += [(dtype, f"no rate: {why}") for dtype, why in probe.missing.items()]
    versions = " ".join(f"{name} {version}" for name, version in sorted(probe.versions.items()) if name != "python")
    rows.append(("probed", f"{day(probe.taken_at)} in {seconds(probe.seconds)}, by {versions}"))
    if probe.disturbed:
        rows.append(("", f"other programs used the CPU meanwhile: {listing(probe.disturbed)} may reach more"))
    return rows


def probing(event: ProbeBegan | ProbeEnded | ProbeFailed) -> list[str]:
    """What a calibration says of the probe that it takes first."""
    match event:
        case ProbeBegan(expected_s=expected_s):
            return [f"probing the machine, once, about {expected_s:.0f} s (--no-probe leaves it out)"]
        case ProbeEnded(probe=probe):
            disturbed = (
                "; other programs used the CPU meanwhile: autobackend host --probe takes it anew"
                if probe.disturbed
                else ""
            )
            return [f"it {reaches(probe)}; took {seconds(probe.seconds)}{disturbed}", ""]
        case ProbeFailed(message=message):
            return [f"no probe of the machine: {message}", ""]


def _reached(reached: Reached, unit: str) -> str:
    """`49.8 GB/s, one core 39.4`."""
    one = "" if reached.one is None else f", one core {figure(reached.one)}"
    return f"{figure(reached.all)} {unit}{one}"


def _device(device: Device) -> str:
    parts = [f"{device.kind} {device.name}"]
    if device.memory_bytes:
        parts.append(f"{size(device.free_bytes)} of {size(device.memory_bytes)} free")
    if device.capability:
        parts.append(f"compute capability {device.capability[0]}.{device.capability[1]}")
    if device.driver:
        parts.append(f"driver {device.driver}")
    if device.power_limit_w:
        parts.append(f"power limit {device.power_limit_w:.0f} W")
    if device.mig:
        parts.append(f"MIG {device.mig}")
    return ", ".join(parts)


def shapes_screen(specs: Sequence[ModelSpec]) -> list[str]:
    """A line for each shape."""
    rows = [("shape", "architecture", "parameters", "layers", "weights", "dtype")]
    for spec in specs:
        kind = spec.architecture + (f", {plural(spec.experts, 'expert')}" if spec.experts else "")
        rows.append(
            (spec.name, kind, parameters(spec.parameters), str(spec.layers), size(spec.weight_bytes), spec.dtype)
        )
    return columns(rows, "<<>>>")
