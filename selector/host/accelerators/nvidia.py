"""NVIDIA's GPUs, told by NVML."""

import contextlib
import importlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from selector.host.device import Device, Kind, Machine


def nvidia_gpus(machine: Machine) -> tuple[Device, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves visible; of a GPU in MIG mode its slices."""
    nvml = machine.nvml
    if nvml is None:
        # nvidiactl: Linux; dxg: WSL; nvhost-gpu: Jetson. Without one of them NVML has nothing to say: import saved.
        if not any((machine.root / "dev" / node).exists() for node in ("nvidiactl", "dxg", "nvhost-gpu")):
            return ()
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        return tuple(_nvidia_devices(nvml, machine.environ.get("CUDA_VISIBLE_DEVICES")))
    except nvml.NVMLError:
        return ()
    finally:
        nvml.nvmlShutdown()


def _nvidia_devices(nvml: Any, visible: str | None) -> Iterator[Device]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    units = [_slices(nvml, handle) or [handle] for handle in handles]
    if visible is None:
        chosen = [unit for group in units for unit in group]
    else:
        chosen = []
        for wanted in (part.strip() for part in visible.split(",")):
            unit = _named(nvml, units, wanted)
            if not unit:
                break  # CUDA hides every device after the first name that it does not know
            chosen += unit
    driver = nvml.nvmlSystemGetDriverVersion()
    for handle in chosen:
        yield _nvidia_device(nvml, handle, driver)


def _named(nvml: Any, units: Sequence[Sequence[Any]], wanted: str) -> Sequence[Any]:
    """The GPU of this index, or the unit whose UUID begins so; a GPU in MIG mode stands for its first slice."""
    if wanted.isdigit():
        return units[int(wanted)][:1] if int(wanted) < len(units) else ()
    every = [unit for group in units for unit in group]
    return [u for u in every if wanted and nvml.nvmlDeviceGetUUID(u).startswith(wanted)][:1]


def _slices(nvml: Any, handle: Any) -> list[Any]:
    """The MIG slices of a GPU; empty where it is not cut."""
    slices: list[Any] = []
    with contextlib.suppress(nvml.NVMLError):
        if nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE:
            for i in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with contextlib.suppress(nvml.NVMLError):
                    slices.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i))
    return slices


def _nvidia_device(nvml: Any, handle: Any, driver: str) -> Device:
    name = str(nvml.nvmlDeviceGetName(handle))
    total = free = 0
    # GPUs that share the host's memory (GB10, Jetson) have none of their own to tell of.
    with contextlib.suppress(nvml.NVMLError):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    power = capability = None
    with contextlib.suppress(nvml.NVMLError):
        power = nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000
    with contextlib.suppress(nvml.NVMLError):
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = (int(major), int(minor))
    uuid = address = None
    with contextlib.suppress(nvml.NVMLError):
        uuid = str(nvml.nvmlDeviceGetUUID(handle))
    with contextlib.suppress(nvml.NVMLError):
        address = _address(str(nvml.nvmlDeviceGetPciInfo(handle).busId))
    slice_of = re.search(r"\bMIG (\S+)", name)
    return Device(
        kind="cuda",
        name=name,
        memory_bytes=total,
        free_bytes=free,
        capability=capability,
        driver=str(driver),
        power_limit_w=power,
        mig=slice_of[1] if slice_of else None,
        uuid=uuid,
        address=address,
    )


def _address(bus_id: str) -> str:
    """As Linux writes it; NVML's domain has eight digits.

    >>> _address('00000000:C7:00.0')
    '0000:c7:00.0'
    """
    domain, _, rest = bus_id.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


NVIDIA = Kind(
    name="cuda",
    title="an NVIDIA GPU",
    find=nvidia_gpus,
    hidden_by=("CUDA_VISIBLE_DEVICES",),
    wheels={
        "libcublas.so.12": "nvidia-cublas-cu12",
        "libcublasLt.so.12": "nvidia-cublas-cu12",
        "libcudart.so.12": "nvidia-cuda-runtime-cu12",
        "libcudnn.so.9": "nvidia-cudnn-cu12",
        "libcurand.so.10": "nvidia-curand-cu12",
        "libnccl.so.2": "nvidia-nccl-cu12",
    },
    driver_libraries={"libcuda.so.1": "the NVIDIA driver", "libnvidia-ml.so.1": "the NVIDIA driver"},
)
