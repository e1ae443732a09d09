"""The signs that drivers leave in /dev, /proc and /sys, read without running anything."""

import re
from collections.abc import Sequence
from pathlib import Path

from selector.host.device import Device


def visible(devices: Sequence[Device], wanted: str | None) -> tuple[Device, ...]:
    """Those whose indices the user left visible; names other than indices are not resolved and hide nothing."""
    parts = [p.strip() for p in (wanted or "").split(",")]
    if wanted is None or not all(re.fullmatch(r"-?\d*", p) for p in parts):
        return tuple(devices)
    return tuple(devices[int(p)] for p in parts if p.isdigit() and int(p) < len(devices))


def pci_devices(root: Path, vendor: str) -> list[str]:
    """Device ids (`0xd802`) of a PCI vendor."""
    folders = sorted((root / "sys/bus/pci/devices").glob("*"))
    return [read(f / "device") for f in folders if read(f / "vendor") == vendor]


def nodes(root: Path, pattern: str) -> list[str]:
    """Names in /dev that match."""
    try:
        return sorted(e.name for e in (root / "dev").iterdir() if re.fullmatch(pattern, e.name))
    except OSError:
        return []


def number(file: Path) -> int:
    """The whole number that a file holds; 0 where it holds none."""
    text = read(file)
    return int(text) if text.isdecimal() else 0


def read(file: Path) -> str:
    """The text of a file; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
