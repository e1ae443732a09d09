"""Cpu: name, features that matter, usable cores and memory, read from /proc and /sys; nothing is run."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FEATURES = frozenset({
    "amx_bf16", "amx_int8", "amx_tile", "avx", "avx2", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx512f",
    "avx_vnni", "bf16", "dotprod", "f16c", "fma", "fp16", "i8mm", "neon", "sve", "sve2",
})  # fmt: skip
"""ISA features that an engine's kernels choose by."""

_ARM_NAMES = {"asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16"}
_UNLIMITED = 1 << 60
"""cgroup v1 writes "no limit" as the largest multiple of a page; no machine has an exbibyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor, as far as this process may use it."""

    name: str
    """archspec's name of the microarchitecture: sapphirerapids, zen3 ..."""
    model: str
    features: frozenset[str]
    beyond: frozenset[str]
    """Features that not every processor of that name has. A virtual machine is named by an older one where it lacks a
    feature of its own, however many of the others it has."""
    numbers: tuple[int, ...]
    """Of the cores that it may use, by affinity and cgroup quota."""
    memory_bytes: int
    """The machine's, or the cgroup's limit; 0 where unknown."""
    free_bytes: int

    @property
    def cores(self) -> int:
        return len(self.numbers)

    @classmethod
    def detect(cls, root: Path = Path("/")) -> "Cpu":
        """Read `root`/proc and `root`/sys; what cannot be read is unknown."""
        info = _first_block(_read(root / "proc/cpuinfo"))
        flags = frozenset((info.get("flags") or info.get("Features") or "").split())
        name = _microarchitecture(info, flags)
        features = _known(flags)
        memory, free = _memory(root)
        return cls(
            name=name,
            model=_model(info, name),
            features=features,
            beyond=features - features_of(name, flags),
            numbers=_cores(root),
            memory_bytes=memory,
            free_bytes=free,
        )


def features_of(name: str, otherwise: Iterable[str] = ()) -> frozenset[str]:
    """The features that every processor of this microarchitecture has; `otherwise` where archspec does not know it."""
    return _known(_archspec()["microarchitectures"].get(name, {"features": otherwise})["features"])


def _known(flags: Iterable[str]) -> frozenset[str]:
    return frozenset(_ARM_NAMES.get(f, f) for f in flags) & FEATURES


def _model(info: dict[str, str], name: str) -> str:
    """The CPU's name without marks and clock.

    >>> _model({'model name': 'Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz'}, 'sapphirerapids')
    'Intel Xeon Platinum 8480+'
    """
    text = info.get("model name", "")
    if not text:
        vendor = _archspec()["conversions"]["arm_vendors"].get(info.get("CPU implementer", ""), "")
        return f"{vendor} {name}".strip()
    text = re.sub(r"\((R|TM|tm)\)|@.*$|\bCPU\b|\b\d+-Core Processor\b", "", text)
    return re.sub(r"\s+", " ", text).strip()


def _microarchitecture(info: dict[str, str], flags: frozenset[str]) -> str:
    """The name that archspec gives, by its rule (archspec/cpu/detect.py, `host`).

    Of the targets of this family that are the vendor's or generic and whose features are all here: the most derived one
    that descends from the best generic one. Its table is read instead of the package imported, which takes 30 to 50 ms.
    """
    family = "aarch64" if "CPU implementer" in info else "x86_64" if "vendor_id" in info else ""
    targets = _archspec()["microarchitectures"]
    if family not in targets:
        return family or "unknown"
    vendor = info.get("vendor_id") or _archspec()["conversions"]["arm_vendors"].get(info["CPU implementer"], "generic")
    ancestors = {name: _ancestors(name) for name in targets}
    fitting = [
        name
        for name, target in targets.items()
        if (name == family or family in ancestors[name])
        # Of ARM's generic versions (armv8.2a ...) the table does not say what they need.
        and (target["vendor"] == vendor or (target["vendor"] == "generic" and (name == family or family != "aarch64")))
        and flags.issuperset(target["features"])
    ]

    def depth(name: str) -> tuple[int, int]:
        return len(ancestors[name]), len(set(targets[name]["features"]))

    generic = max((n for n in fitting if targets[n]["vendor"] == "generic"), key=depth, default=family)
    part = info.get("CPU part", "")
    same_part = [n for n in fitting if part and targets[n].get("cpupart") == part]
    return max((n for n in same_part or fitting if generic in ancestors[n]), key=depth, default=generic)


@cache
def _ancestors(name: str) -> frozenset[str]:
    parents = _archspec()["microarchitectures"][name]["from"]
    return frozenset(parents).union(*map(_ancestors, parents))


@cache
def _archspec() -> dict[str, Any]:
    """The table of archspec; empty where the package is missing."""
    spec = find_spec("archspec")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        text = _read(Path(folder) / "json/cpu/microarchitectures.json")
        if text:
            table: dict[str, Any] = json.loads(text)
            return table
    return {"microarchitectures": {}, "conversions": {"arm_vendors": {}}}


def _cores(root: Path) -> tuple[int, ...]:
    status = re.search(r"^Cpus_allowed_list:\s*(\S+)", _read(root / "proc/self/status"), re.MULTILINE)
    allowed = numbers_of(status[1]) if status else tuple(range(os.cpu_count() or 1))
    # A quota of 1.5 cores throttles two threads, so the part of a core is not counted.
    quotas = [int(q) for folder in _cgroups(root, "cpu") if (q := _quota(folder)) is not None]
    return allowed[: max(1, min([len(allowed), *quotas]))]


def numbers_of(ranges: str) -> tuple[int, ...]:
    """The numbers of a list of ranges, as Linux writes it.

    >>> numbers_of('0-3,8')
    (0, 1, 2, 3, 8)
    """
    ends = [part.split("-") for part in ranges.split(",") if part]
    return tuple(number for e in ends for number in range(int(e[0]), int(e[-1]) + 1))


def _quota(folder: Path) -> float | None:
    """Cores that a cgroup may use; None without a limit."""
    if text := _read(folder / "cpu.max"):
        quota, _, period = text.strip().partition(" ")
    else:
        quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _memory(root: Path) -> tuple[int, int]:
    """Total and available bytes: the machine's, or less where a cgroup limits it."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    meminfo = {key: int(value) << 10 for key, value in lines}
    total, free = meminfo.get("MemTotal", 0), meminfo.get("MemAvailable", meminfo.get("MemFree", 0))
    for folder in _cgroups(root, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if not limit or limit >= min(_UNLIMITED, total or _UNLIMITED):
            continue
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        # Pages of files that were read are given back when somebody needs the memory.
        stat = dict(re.findall(r"^(\w+) (\d+)$", _read(folder / "memory.stat"), re.MULTILINE))
        cached = int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)
        total = limit
        free = min(free, max(0, limit - used + cached))
    return total, min(free, total)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup for a controller (v1 and v2) and of all above it; the outermost last."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mounts = (controllers, controller) if controllers else ("unified", "")
        base = next((b for m in mounts if (b := root / "sys/fs/cgroup" / m).is_dir()), None)
        if base is None:
            continue
        # In a container the path is often the host's and not visible here; the mount's own root is then the limit.
        parts = [p for p in path.split("/") if p]
        for length in range(len(parts), -1, -1):
            folder = base.joinpath(*parts[:length])
            if folder.is_dir():
                yield folder


def _number(file: Path) -> int:
    text = _read(file).strip()
    return int(text) if text.isdigit() else 0


def _first_block(text: str) -> dict[str, str]:
    """/proc/cpuinfo's first processor."""
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
