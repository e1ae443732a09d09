"""The screens of `host`, `rules` and `shapes`, and the same as JSON."""

from collections.abc import Sequence
from typing import Any

from selector.host.spec import Device, HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import RULES
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
    told = [f"{device.kind} {device.name}"]
    if device.memory_bytes:
        told.append(f"{size(device.free_bytes)} of {size(device.memory_bytes)} free")
    if device.capability:
        told.append(f"compute capability {device.capability[0]}.{device.capability[1]}")
    if device.driver:
        told.append(f"driver {device.driver}")
    if device.power_limit_w:
        told.append(f"power limit {device.power_limit_w:.0f} W")
    if device.mig:
        told.append(f"MIG {device.mig}")
    return ", ".join(told)


def host_json(host: HostSpec) -> dict[str, Any]:
    """What `autobackend host --json` prints."""
    return {
        "identifier": host.identifier,
        "cpu_name": host.cpu_name,
        "cpu_model": host.cpu_model,
        "cpu_features": sorted(host.cpu_features),
        "cores": host.cores,
        "memory_bytes": host.memory_bytes,
        "devices": [
            {
                "kind": d.kind,
                "name": d.name,
                "memory_bytes": d.memory_bytes,
                "free_bytes": d.free_bytes,
                "capability": None if d.capability is None else f"{d.capability[0]}.{d.capability[1]}",
                "driver": d.driver,
                "power_limit_w": d.power_limit_w,
                "mig": d.mig,
            }
            for d in host.devices
        ],
    }


def rules_json() -> list[dict[str, str]]:
    """Name and sentence of every rule, in the order in which they run."""
    return [{"rule": rule.__name__, "sentence": " ".join((rule.__doc__ or "").split())} for rule in RULES]


def rules_screen(across: int | None = None) -> list[str]:
    """The rules as a table."""
    return columns([(r["rule"], r["sentence"]) for r in rules_json()], across=across)


def shapes_json() -> list[dict[str, Any]]:
    """What `autobackend shapes --json` prints."""
    from selector.model.shape_library import shape_names

    specs = [ModelSpec.read(f"shape:{name}") for name in shape_names()]
    return [
        {
            "name": spec.name,
            "architecture": spec.architecture,
            "parameters": spec.parameters,
            "layers": spec.layers,
            "experts": spec.experts,
            "dtype": spec.dtype,
            "max_position": spec.max_position,
            "weight_bytes": spec.weight_bytes,
        }
        for spec in sorted(specs, key=lambda s: s.parameters)
    ]


def shapes_screen(shapes: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each shape, the smallest first."""
    rows = [("shape", "architecture", "parameters", "layers", "weights", "dtype")]
    for s in shapes:
        kind = s["architecture"] + (f", {plural(s['experts'], 'expert')}" if s["experts"] else "")
        rows.append(
            (s["name"], kind, parameters(s["parameters"]), str(s["layers"]), size(s["weight_bytes"]), s["dtype"])
        )
    return columns(rows, "<<>>>")
