"""The screens of `host` and `shapes`."""

from collections.abc import Sequence

from selector.host.spec import Device, HostSpec
from selector.model.spec import ModelSpec
from selector.screens.text import columns, parameters, plural, size


def host_screen(host: HostSpec) -> list[str]:
    """Devices, CPU, memory."""
    rows = [("host", host.identifier)]
    accelerators = [d for d in host.devices if d.kind != "cpu"]
    rows += [("device" if i == 0 else "", _device(d)) for i, d in enumerate(accelerators)]
    if not accelerators:
        rows.append(("device", "the CPU; no GPU"))
    features = " ".join(sorted(host.cpu_features))
    rows.append(("CPU", f"{host.cpu_model} ({host.cpu_name}): {features or 'no feature that matters'}"))
    rows.append(("cores", str(host.cores)))
    rows.append(("memory", size(host.memory_bytes)))
    return columns(rows)


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
