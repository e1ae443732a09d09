"""Which shared objects a library needs and the loader would not find; nothing is loaded."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

_DEFAULT_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/usr/lib/wsl/lib")


def missing_libraries(library: Path, site_packages: Sequence[Path]) -> tuple[str, ...]:
    """Sonames that `library`, or what it needs inside `site_packages`, needs and that are nowhere to be found.

    Looked for as the loader does: RUNPATH, LD_LIBRARY_PATH, the loader's cache, the default folders; and in the folders
    whose libraries torch loads before (torch/lib and nvidia/*/lib). In the loader's order: the first one is what its
    error names. Files that are no ELF objects need nothing.
    """
    try:
        changed = library.stat().st_mtime_ns
    except OSError:
        return ()
    folders = tuple(f for site in site_packages for f in _stamped(site))
    return _missing_as_of(library, changed, folders, os.environ.get("LD_LIBRARY_PATH", ""))


def _stamped(site: Path) -> Iterator[tuple[Path, int]]:
    """Folders of libraries that torch loads, and when each changed: a pip install or uninstall shows there."""
    for folder in (site, site / "torch/lib", *sorted(site.glob("nvidia/*/lib"))):
        try:
            yield folder, folder.stat().st_mtime_ns
        except OSError:
            continue


@lru_cache(maxsize=64)
def _missing_as_of(
    library: Path,
    changed: int,  # noqa: ARG001  part of the key only
    folders: tuple[tuple[Path, int], ...],
    library_path: str,
) -> tuple[str, ...]:
    preloaded = [folder for folder, _ in folders]
    inherited = [Path(p) for p in library_path.split(os.pathsep) if p]
    missing: dict[str, None] = {}
    seen: set[str] = set()
    queue = [library]
    while queue:
        current = queue.pop(0)
        needed, runpath = _dynamic(current)
        for soname in needed:
            if soname in seen:
                continue
            seen.add(soname)
            file = _find(soname, [*runpath, *inherited, *preloaded])
            if file is None:
                missing[soname] = None
            elif any(file.is_relative_to(folder) for folder in preloaded):
                queue.append(file)
    return tuple(missing)


def _find(soname: str, folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        if (folder / soname).exists():
            return folder / soname
    return _loader_cache().get(soname)


def _dynamic(library: Path) -> tuple[list[str], list[Path]]:
    """DT_NEEDED and DT_RUNPATH (or DT_RPATH) of an ELF object, $ORIGIN resolved."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    needed: list[str] = []
    folders: list[Path] = []
    try:
        with library.open("rb") as stream:
            section = ELFFile(stream).get_section_by_name(".dynamic")
            if not isinstance(section, DynamicSection):
                return needed, folders
            tags: Iterator[Any] = section.iter_tags()
            for tag in tags:
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag in {"DT_RUNPATH", "DT_RPATH"}:
                    text = tag.runpath if tag.entry.d_tag == "DT_RUNPATH" else tag.rpath
                    origin = str(library.resolve().parent)
                    folders += [Path(re.sub(r"\$(ORIGIN|\{ORIGIN\})", origin, p)) for p in text.split(":") if p]
    except (OSError, ELFError):
        return [], []
    return needed, folders


@lru_cache(maxsize=1)
def _loader_cache() -> dict[str, Path]:
    """Soname: file, of all that the loader knows without being told."""
    files: dict[str, Path] = {}
    for folder in map(Path, _DEFAULT_FOLDERS):
        for base in (folder, *folder.glob("*-linux-gnu*")):
            files |= {f.name: f for f in base.glob("*.so*")}
    command = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    if command:
        try:
            listing = subprocess.run([command, "-p"], capture_output=True, text=True, timeout=10, check=False).stdout
        except (OSError, subprocess.SubprocessError):
            listing = ""
        files |= {name: Path(path) for name, path in re.findall(r"^\s+(\S+) .*=> (\S+)$", listing, re.MULTILINE)}
    return files
