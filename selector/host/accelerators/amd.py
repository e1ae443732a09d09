"""AMD's GPUs, told by the kernel's compute driver."""

import re

from selector.host.accelerators.signs import number, read, visible
from selector.host.device import Device, Kind, Machine


def amd_gpus(machine: Machine) -> tuple[Device, ...]:
    """AMD GPUs of the kernel's compute driver (linux: drivers/gpu/drm/amd/amdkfd/kfd_topology.c)."""
    nodes = sorted((machine.root / "sys/class/kfd/kfd/topology/nodes").glob("*"), key=lambda n: (len(n.name), n.name))
    driver = read(machine.root / "opt/rocm/.info/version") or read(machine.root / "sys/module/amdgpu/version") or None
    gpus = []
    for node in nodes:
        properties = dict(re.findall(r"^(\w+) (\d+)$", read(node / "properties"), re.MULTILINE))
        if not int(properties.get("simd_count", 0)):
            continue  # the CPU is a node too
        card = machine.root / f"sys/class/drm/renderD{properties.get('drm_render_minor', '')}/device"
        total, used = number(card / "mem_info_vram_total"), number(card / "mem_info_vram_used")
        if total < 2 << 30 and not (machine.root / "opt/rocm").exists():
            continue  # the graphics part of a desktop processor, with nothing installed that would compute on it
        version = int(properties.get("gfx_target_version", 0))
        gfx = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
        product = read(card / "product_name")
        gpus.append(
            Device(
                kind="rocm",
                name=f"{product} ({gfx})" if product else f"AMD GPU ({gfx})",
                memory_bytes=total,
                free_bytes=max(0, total - used),
                driver=driver,
            )
        )
    return visible(gpus, machine.environ.get("HIP_VISIBLE_DEVICES", machine.environ.get("ROCR_VISIBLE_DEVICES")))


AMD = Kind(name="rocm", title="an AMD GPU", find=amd_gpus, hidden_by=("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"))
