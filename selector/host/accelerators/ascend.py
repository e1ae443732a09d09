"""Huawei's Ascend NPUs, told by their nodes in /dev."""

import re

from selector.host.accelerators.signs import nodes, pci_devices, read, visible
from selector.host.device import Device, Kind, Machine


def ascend_npus(machine: Machine) -> tuple[Device, ...]:
    """Huawei NPUs: /dev/davinci0 ...; the product by the PCI device (vendor 19e5). Their memory only npu-smi tells."""
    products = {"0xd100": "310", "0xd500": "310P", "0xd801": "910", "0xd802": "910B", "0xd803": "910C"}
    names = [products[d] for d in pci_devices(machine.root, "0x19e5") if d in products]
    version = re.search(r"^Version=(\S+)", read(machine.root / "usr/local/Ascend/driver/version.info"), re.MULTILINE)
    npus = [
        Device(
            kind="ascend",
            name=f"Ascend {names[0]}" if names else "Ascend NPU",
            memory_bytes=0,
            free_bytes=0,
            driver=version[1] if version else None,
        )
        for _ in nodes(machine.root, r"davinci\d+")
    ]
    return visible(npus, machine.environ.get("ASCEND_RT_VISIBLE_DEVICES"))


ASCEND = Kind(name="ascend", title="an Ascend NPU", find=ascend_npus, hidden_by=("ASCEND_RT_VISIBLE_DEVICES",))
