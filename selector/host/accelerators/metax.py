"""MetaX' GPUs, told by their driver's node in /dev."""

from selector.host.accelerators.signs import pci_devices
from selector.host.device import Device, Kind, Machine


def metax_gpus(machine: Machine) -> tuple[Device, ...]:
    """MetaX GPUs (MACA): the driver's /dev/mxcd, and one PCI device (vendor 9999) each."""
    if not (machine.root / "dev/mxcd").exists():
        return ()
    count = max(1, len(pci_devices(machine.root, "0x9999")))
    return (Device(kind="maca", name="MetaX GPU", memory_bytes=0, free_bytes=0),) * count


METAX = Kind(name="maca", title="a MetaX GPU", find=metax_gpus)
