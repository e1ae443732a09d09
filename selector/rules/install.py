"""Rules about what is installed where a backend runs."""

import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from calibration.environments.distributions import beside_folder, normalise, requirement_name
from calibration.environments.packages import beside
from selector.host.shared_objects import missing_libraries
from selector.host.spec import Installation
from selector.rules.combination import Combination, Finding

_CARRIERS = {
    "libcublas.so.12": "nvidia-cublas-cu12",
    "libcublasLt.so.12": "nvidia-cublas-cu12",
    "libcudart.so.12": "nvidia-cuda-runtime-cu12",
    "libcudnn.so.9": "nvidia-cudnn-cu12",
    "libcurand.so.10": "nvidia-curand-cu12",
    "libnccl.so.2": "nvidia-nccl-cu12",
}
"""Wheels that carry a library under nvidia/*/lib, where RUNPATHs of other wheels point."""

_OF_THE_DRIVER = {"libcuda.so.1": "the NVIDIA driver", "libnvidia-ml.so.1": "the NVIDIA driver"}


def installed(case: Combination) -> Finding:
    """The backend's package and what it requires are installed, in versions it works with."""
    facts, installation = case.facts, case.installation
    if installation.problem:
        return f"needs an interpreter; {installation.problem}"
    if normalise(facts.package) not in installation.versions:
        own = next((r for r in facts.requires if requirement_name(r) == normalise(facts.package)), facts.package)
        return f"needs {own}; it is not installed", install_command(installation, facts.install)
    unmet = _unmet(facts.requires, installation)
    if not unmet:
        return None
    mend = "pip install " + " ".join(f'"{r}"' for r in unmet)
    return f"needs {', '.join(unmet)}; {what_is(unmet, installation)}", install_command(installation, mend)


def instruction_set(case: Combination) -> Finding:
    """The machine code of the backend's wheel, and of its variant, runs on this CPU."""
    if case.device.kind != "cpu" or not case.on_its_device:
        return None
    wanted = case.facts.cpu_features | case.variant.cpu_features
    lacking = [group for group in sorted(wanted) if not case.host.cpu_features.intersection(group.split("|"))]
    if not lacking:
        return None
    found = " ".join(sorted(case.host.cpu_features)) or "none that matters"
    return f"needs a CPU with {' and '.join(group.replace('|', ' or ') for group in lacking)}; found {found}"


def variant_packages(case: Combination) -> Finding:
    """What this variant alone needs is installed beside the backend."""
    facts, installation = case.facts, case.installation
    if installation.problem or normalise(facts.package) not in installation.versions:
        return None
    unmet = _unmet(case.variant.packages, installation)
    if not unmet:
        return None
    mend = "pip install " + " ".join(f'"{r}"' for r in unmet)
    return f"needs {', '.join(unmet)}; {what_is(unmet, installation)}", install_command(installation, mend)


def prepare_packages(case: Combination) -> Finding:
    """What converts the model for this variant is installed beside the backend."""
    facts, installation = case.facts, case.installation
    if not case.variant.prepares or installation.problem or normalise(facts.package) not in installation.versions:
        return None
    unmet = _unmet(facts.prepare_requires, installation)
    if unmet:
        mend = "pip install " + " ".join(f'"{r}"' for r in unmet)
        text = f"needs {', '.join(unmet)} to convert the model; {what_is(unmet, installation)}"
        return text, install_command(installation, mend)
    for pinned in facts.beside:
        name, _, version = pinned.partition("==")
        found = beside(installation.python, name)
        if found != version:
            folder = beside_folder(installation.python, name)
            mend = f"{installation.python} -m pip install --no-deps --upgrade --target {folder} {pinned}"
            is_there = f"{found} is installed" if found else "it is not installed"
            return f"needs {pinned} in {folder} to convert the model; {is_there}", mend
    return None


def importable(case: Combination) -> Finding:
    """The backend's compiled libraries are there and find every shared object that they need."""
    if normalise(case.facts.package) not in case.installation.versions:
        return None
    sites = case.installation.site_packages
    for pattern in case.facts.libraries:
        found = [file for site in sites for file in sorted(site.glob(pattern))]
        if not found:
            return f"needs {pattern} of {case.facts.package}; the installed package has none", case.facts.install
        missing = [soname for file in found for soname in missing_libraries(file, sites)]
        if missing:
            what = ", ".join(dict.fromkeys(missing))
            text = f"needs {what} to load {found[0].name}; {missing[0]}: cannot open shared object file"
            return text, _carriers(missing, case.installation)
    return None


def install_command(installation: Installation, command: str) -> str:
    """`pip install X`, for the interpreter that runs the backend."""
    if installation.python == Path(sys.executable) or not command.startswith("pip "):
        return command
    return f"{installation.python} -m {command}"


def lacking(packages: Iterable[str], installation: Installation) -> list[str]:
    """Those that are not installed."""
    return _unmet(packages, installation)


@lru_cache(maxsize=512)
def meets(requirement: str, version: str | None) -> bool:
    """A version (None: not installed) satisfies a requirement. Pre-releases and local versions count as they are."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:
        return version is not None
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    if version is None:
        return False
    try:
        return wanted.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return not wanted.specifier


def _unmet(requirements: Iterable[str], installation: Installation) -> list[str]:
    return [r for r in requirements if not meets(r, installation.versions.get(requirement_name(r)))]


def what_is(requirements: Iterable[str], installation: Installation) -> str:
    """`torch 2.3.0 is installed, nncf is not installed`."""
    names = [requirement_name(r) for r in requirements]
    found = {n: installation.versions.get(n) for n in names}
    return ", ".join(f"{n} {v} is installed" if v else f"{n} is not installed" for n, v in found.items())


def _carriers(missing: Iterable[str], installation: Installation) -> str:
    wheels = dict.fromkeys(_CARRIERS[m] for m in missing if m in _CARRIERS)
    command = install_command(installation, "pip install " + " ".join(wheels)) if wheels else ""
    others = dict.fromkeys(f"install {_OF_THE_DRIVER[m]}" for m in missing if m in _OF_THE_DRIVER)
    return "; ".join([command, *others] if command else others)
