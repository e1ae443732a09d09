"""Cambricon's MLUs, told by their nodes in /dev."""

import re

from selector.host.accelerators.signs import nodes, read
from selector.host.device import Device, Kind, Machine


def cambricon_mlus(machine: Machine) -> tuple[Device, ...]:
    """Cambricon MLUs: /dev/cambricon_dev0 ...; the product from the driver's /proc/driver/cambricon/mlus."""
    texts = (read(f) for f in sorted((machine.root / "proc/driver/cambricon/mlus").glob("*/information")))
    names = [m[1] for text in texts if (m := re.search(r"Device name\s*:\s*(\S+)", text))]
    return tuple(
        Device(kind="camb", name=names[0] if names else "Cambricon MLU", memory_bytes=0, free_bytes=0)
        for _ in nodes(machine.root, r"cambricon_dev\d+")
    )


CAMBRICON = Kind(name="camb", title="a Cambricon MLU", find=cambricon_mlus)
