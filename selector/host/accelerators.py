"""Device: GPUs and NPUs, found by NVML or by the signs that their drivers leave in /dev, /proc and /sys."""

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU or accelerator, or the CPU."""

    kind: str
    """cpu, cuda, rocm, ascend, maca, camb"""
    name: str
    """Product name; for a CPU its microarchitecture, model and cores."""
    memory_bytes: int
    """What a process can have: the device's memory; for a CPU the cgroup's limit or the machine's. 0: unknown."""
    free_bytes: int
    capability: tuple[int, int] | None = None
    driver: str | None = None
    power_limit_w: float | None = None
    mig: str | None = None
    """Profile of a MIG slice, `3g.40gb`."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend host --json` prints it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "memory_bytes": self.memory_bytes,
            "free_bytes": self.free_bytes,
            "capability": None if self.capability is None else f"{self.capability[0]}.{self.capability[1]}",
            "driver": self.driver,
            "power_limit_w": self.power_limit_w,
            "mig": self.mig,
        }


def accelerators(root: Path, environ: Mapping[str, str], nvml: Any = None) -> tuple[Device, ...]:
    """Every accelerator that a process may use, in its driver's order; empty where there is none.

    Args:
        root: where dev, proc, sys, opt and usr are.
        environ: CUDA_VISIBLE_DEVICES and its like hide devices.
        nvml: the module pynvml or what stands for it; None imports it where an NVIDIA driver shows.
    """
    return (
        *_nvidia(root, environ, nvml),
        *_rocm(root, environ),
        *_ascend(root, environ),
        *_cambricon(root),
        *_metax(root),
    )


def _nvidia(root: Path, environ: Mapping[str, str], nvml: Any) -> tuple[Device, ...]:
    if nvml is None:
        # nvidiactl: Linux; dxg: WSL; nvhost-gpu: Jetson. Without one of them NVML has nothing to say: import saved.
        if not any((root / "dev" / node).exists() for node in ("nvidiactl", "dxg", "nvhost-gpu")):
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
        return tuple(_nvidia_devices(nvml, environ.get("CUDA_VISIBLE_DEVICES")))
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
            found = _named(nvml, units, wanted)
            if not found:
                break  # CUDA hides every device after the first name that it does not know
            chosen += found
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
    found: list[Any] = []
    with contextlib.suppress(nvml.NVMLError):
        if nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE:
            for i in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with contextlib.suppress(nvml.NVMLError):
                    found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i))
    return found


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
    )


def _rocm(root: Path, environ: Mapping[str, str]) -> tuple[Device, ...]:
    """AMD GPUs of the kernel's compute driver (linux: drivers/gpu/drm/amd/amdkfd/kfd_topology.c)."""
    nodes = sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*"), key=lambda n: (len(n.name), n.name))
    driver = _read(root / "opt/rocm/.info/version") or _read(root / "sys/module/amdgpu/version") or None
    found = []
    for node in nodes:
        properties = dict(re.findall(r"^(\w+) (\d+)$", _read(node / "properties"), re.MULTILINE))
        if not int(properties.get("simd_count", 0)):
            continue  # the CPU is a node too
        card = root / f"sys/class/drm/renderD{properties.get('drm_render_minor', '')}/device"
        total, used = _number(card / "mem_info_vram_total"), _number(card / "mem_info_vram_used")
        if total < 2 << 30 and not (root / "opt/rocm").exists():
            continue  # the graphics part of a desktop processor, with nothing installed that would compute on it
        version = int(properties.get("gfx_target_version", 0))
        gfx = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
        product = _read(card / "product_name")
        found.append(
            Device(
                kind="rocm",
                name=f"{product} ({gfx})" if product else f"AMD GPU ({gfx})",
                memory_bytes=total,
                free_bytes=max(0, total - used),
                driver=driver,
            )
        )
    return _visible(found, environ.get("HIP_VISIBLE_DEVICES", environ.get("ROCR_VISIBLE_DEVICES")))


def _ascend(root: Path, environ: Mapping[str, str]) -> tuple[Device, ...]:
    """Huawei NPUs: /dev/davinci0 ...; the product by the PCI device (vendor 19e5). Their memory only npu-smi tells."""
    products = {"0xd100": "310", "0xd500": "310P", "0xd801": "910", "0xd802": "910B", "0xd803": "910C"}
    names = [products[d] for d in _pci_devices(root, "0x19e5") if d in products]
    version = re.search(r"^Version=(\S+)", _read(root / "usr/local/Ascend/driver/version.info"), re.MULTILINE)
    found = [
        Device(
            kind="ascend",
            name=f"Ascend {names[0]}" if names else "Ascend NPU",
            memory_bytes=0,
            free_bytes=0,
            driver=version[1] if version else None,
        )
        for _ in _nodes(root, r"davinci\d+")
    ]
    return _visible(found, environ.get("ASCEND_RT_VISIBLE_DEVICES"))


def _cambricon(root: Path) -> tuple[Device, ...]:
    """Cambricon MLUs: /dev/cambricon_dev0 ...; the product from the driver's /proc/driver/cambricon/mlus."""
    told = (_read(f) for f in sorted((root / "proc/driver/cambricon/mlus").glob("*/information")))
    names = [m[1] for text in told if (m := re.search(r"Device name\s*:\s*(\S+)", text))]
    return tuple(
        Device(kind="camb", name=names[0] if names else "Cambricon MLU", memory_bytes=0, free_bytes=0)
        for _ in _nodes(root, r"cambricon_dev\d+")
    )


def _metax(root: Path) -> tuple[Device, ...]:
    """MetaX GPUs (MACA): the driver's /dev/mxcd, and one PCI device (vendor 9999) each."""
    if not (root / "dev/mxcd").exists():
        return ()
    count = max(1, len(_pci_devices(root, "0x9999")))
    return (Device(kind="maca", name="MetaX GPU", memory_bytes=0, free_bytes=0),) * count


def _visible(devices: Sequence[Device], wanted: str | None) -> tuple[Device, ...]:
    """Those whose indices the user left visible; names other than indices are not resolved and hide nothing."""
    parts = [p.strip() for p in (wanted or "").split(",")]
    if wanted is None or not all(re.fullmatch(r"-?\d*", p) for p in parts):
        return tuple(devices)
    return tuple(devices[int(p)] for p in parts if p.isdigit() and int(p) < len(devices))


def _pci_devices(root: Path, vendor: str) -> list[str]:
    """Device ids (`0xd802`) of a PCI vendor."""
    folders = sorted((root / "sys/bus/pci/devices").glob("*"))
    return [_read(f / "device") for f in folders if _read(f / "vendor") == vendor]


def _nodes(root: Path, pattern: str) -> list[str]:
    """Names in /dev that match."""
    try:
        return sorted(e.name for e in (root / "dev").iterdir() if re.fullmatch(pattern, e.name))
    except OSError:
        return []


def _number(file: Path) -> int:
    text = _read(file)
    return int(text) if text.isdigit() else 0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
